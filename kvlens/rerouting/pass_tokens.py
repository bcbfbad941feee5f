"""Pass tokens: what stands where in the padded rows of one forward pass.

It knows masks, ids and places, and nothing of keys, values and prefixes.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from kvlens.store.errors import InputError
from kvlens.texts.token_hash import token_hash


@dataclass(frozen=True)
class PassTokens:
    """The tokens that a base model is called with, on the device of its ids.

    Attributes:
        ids: int64 ``[batch, seq_len]``; None where embeddings are given in their place.
        real: what is no padding, ``[batch, seq_len]``.
        last: place of each row's final real token, int64 ``[batch]``.
        text: each row's own text, without the prompt, ``[batch, seq_len]``; None: not known.
    """

    ids: Int[Tensor, "batch seq_len"] | None
    real: Bool[Tensor, "batch seq_len"]
    last: Int[Tensor, " batch"]
    text: Bool[Tensor, "batch seq_len"] | None = None

    @classmethod
    def of(
        cls,
        module: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        last: Int[Tensor, " batch"] | None = None,
        text: Bool[Tensor, "batch seq_len"] | None = None,
    ) -> PassTokens:
        """The tokens of a call.

        Args:
            module: the base model.
            args: what it is called with.
            kwargs: and by name; its ``attention_mask`` ``[batch, seq_len]`` may pad either side.
            last: the place of each row's final real token, where it is known.
            text: where the text is, where it is known.

        Returns:
            The tokens.

        Raises:
            InputError: for a mask of another shape.
        """
        called_with = _by_name(module, args, kwargs)
        ids = called_with.get("input_ids")
        tokens = called_with["inputs_embeds"] if ids is None else ids
        batch, seq_len = tokens.shape[:2]
        mask = called_with.get("attention_mask")
        if last is None:
            last = _last_real(mask, batch, seq_len)
        last = last.to(tokens.device)
        if mask is None or mask.ndim != 2:
            real = torch.arange(seq_len, device=last.device) <= last[:, None]
        else:
            real = mask.bool().to(last.device)
        return cls(ids, real, last, None if text is None else text.to(last.device))

    @property
    def first(self) -> Int[Tensor, " batch"]:
        """Place of each row's position 0."""
        return self.real.long().argmax(1)

    @property
    def ranked(self) -> Bool[Tensor, "batch seq_len"]:
        """The tokens that a probe query ranks: all but position 0; that one where it is alone."""
        places = torch.arange(self.real.shape[1], device=self.real.device)
        alone = self.first == self.last
        return self.real & ((places != self.first[:, None]) | alone[:, None])

    def source(self, source: str | int) -> Int[Tensor, " batch"]:
        """The place of the token that a prefix is taken from.

        Args:
            source: ``final``, ``text``, or an index of real tokens, from the end below zero.

        Returns:
            int64 ``[batch]``.

        Raises:
            InputError: for a place that a text does not have, and ``text`` where that is not known.
        """
        if source == "final":
            return self.last
        if source == "text":
            return self._last_of_text()
        index = int(source)
        place = self.first + index if index >= 0 else self.last + index + 1
        outside = (place > self.last) | (place < self.first)
        if outside.any():
            n = int(self.real[outside].sum(1)[0])
            raise InputError(f"`source` is token {index}, and a text has {n} tokens")
        return place

    def _last_of_text(self) -> Int[Tensor, " batch"]:
        """The text's last token; the final one where a text is empty."""
        text = self.known_text()
        end = text.shape[1] - 1 - text.flip(1).long().argmax(1)
        return torch.where(text.any(1), end, self.last)

    def known_text(self) -> Bool[Tensor, "batch seq_len"]:
        """Where the text is; raises InputError where that is not known."""
        if self.text is None:
            raise InputError(
                "which tokens are the text's own is not known here: use an encoder, or set "
                "`.text_mask` on what `with reroute` yields"
            )
        return self.text

    def select(
        self,
        states: Shaped[Tensor, "batch n_kv_heads seq_len d_head"],
        place: Int[Tensor, " batch"],
    ) -> Shaped[Tensor, "batch n_kv_heads 1 d_head"]:
        """The keys or values of one token a row, on whatever device they are."""
        device = states.device
        row = torch.arange(len(place), device=device)
        return states[row, :, place.to(device)][:, :, None]

    def select_by_head(
        self,
        states: Shaped[Tensor, "batch n_kv_heads seq_len d_head"],
        places: Int[Tensor, "batch n_kv_heads n"],
    ) -> Shaped[Tensor, "batch n_kv_heads n d_head"]:
        """The keys or values of some tokens of each head, on whatever device they are."""
        index = places.to(states.device)[..., None].expand(-1, -1, -1, states.shape[-1])
        return states.gather(2, index)

    def mean(
        self, states: Shaped[Tensor, "batch n_kv_heads seq_len d_head"]
    ) -> Shaped[Tensor, "batch n_kv_heads 1 d_head"]:
        """The mean over a row's real tokens, added up in float32."""
        real = self.real.to(states.device)[:, None, :, None]
        kept = torch.where(real, states.float(), 0.0)
        return (kept.sum(2, keepdim=True) / real.sum(2, keepdim=True)).to(states.dtype)

    def hashes(self) -> list[str]:
        """The `token_hash` of each row; raises InputError where there are no ids."""
        if self.ids is None:
            raise InputError("the prefix of another text is chosen by ids: give `input_ids`")
        rows = zip(self.ids, self.real, strict=True)
        return [token_hash(ids[real].tolist()) for ids, real in rows]


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
