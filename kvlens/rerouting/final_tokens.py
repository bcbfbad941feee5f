"""Final tokens: which real token of each padded row is the last, in one forward pass.

It knows masks and position ids, and nothing of keys, values and prefixes.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from kvlens.store.errors import InputError


@dataclass(frozen=True)
class FinalTokens:
    """Each row's final real token.

    Attributes:
        row: 0 to batch - 1, int64 ``[batch]``.
        index: its place in the padded row, int64 ``[batch]``.
    """

    row: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]

    @classmethod
    def of(
        cls,
        module: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        last: Int[Tensor, " batch"] | None = None,
    ) -> FinalTokens:
        """The final tokens of the batch that a base model is called with.

        Args:
            module: the base model.
            args: what it is called with.
            kwargs: and by name; its ``attention_mask`` ``[batch, seq_len]`` may pad either side.
            last: the place in each row, where it is known.

        Returns:
            The tokens, on the device of the ids.

        Raises:
            InputError: for a mask of another shape.
        """
        called_with = _by_name(module, args, kwargs)
        tokens = called_with.get("input_ids")
        if tokens is None:
            tokens = called_with["inputs_embeds"]
        batch, seq_len = tokens.shape[:2]
        if last is None:
            last = _last_real(called_with.get("attention_mask"), batch, seq_len)
        index = last.to(tokens.device)
        return cls(torch.arange(batch, device=index.device), index)

    def select(
        self, states: Shaped[Tensor, "batch n_kv_heads seq_len d_head"]
    ) -> Shaped[Tensor, "batch n_kv_heads d_head"]:
        """The keys or values of these tokens, on whatever device they are."""
        device = states.device
        return states[self.row.to(device), :, self.index.to(device)]


def _last_real(mask: Tensor | None, batch: int, seq_len: int) -> Int[Tensor, " batch"]:
    if mask is None:
        return torch.full((batch,), seq_len - 1)
    if mask.ndim != 2:
        raise InputError("re-routing needs an attention_mask of [batch, seq_len]")
    return seq_len - 1 - mask.flip(1).long().argmax(1)


def _by_name(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a module's forward by name."""
    signature = inspect.signature(type(module).forward)
    arguments = signature.bind_partial(module, *args, **kwargs).arguments
    return {**arguments, **arguments.get("kwargs", {})}
