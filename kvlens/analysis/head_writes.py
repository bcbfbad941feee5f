"""Head writes: what a block's attention heads write of one token's value, through ``W_O``.

A query that attends to the final token alone gets from head h the value ``v_kv(h)`` (with grouped
queries, heads of one group share it), and the output projection adds ``v_kv(h) W_O[h]`` to the
residual stream. The projection's bias belongs to no token and is left out.

``W_O`` is found, not known by name: the module that is given the heads' values as they are, by the
one token of a pass, which attends only to itself. What the block then applies to the projection's
output before it is added (Gemma and OLMo 2 have a norm there) is applied to each write alone, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from kvlens.models.anatomy import LayerAnatomy
from kvlens.models.dissection import calls_at_origin
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

TOLERANCE = 1e-2  # of the largest value, in the coarsest dtype

Seen = tuple[Module, Tensor, Tensor]
"""A module of a block, what it was given, and what it made of it."""


@dataclass(frozen=True)
class LayerWrites:
    """The way from the values of one layer to the residual stream.

    Attributes:
        lm: the model.
        n_heads: query heads.
        projection: ``W_O``, with its bias.
        after: what the block applies to the projection's output, in order.
        like: what the projection was given, for dtype and device.
    """

    lm: LanguageModel
    n_heads: int
    projection: Module
    after: tuple[Module, ...]
    like: Tensor

    def heads(
        self, values: Float[Tensor, "n n_kv_heads d_value"]
    ) -> Float[Tensor, "n n_heads d_model"]:
        """What each query head writes.

        Args:
            values: of one token a text, float32.

        Returns:
            float32 on the CPU; their sum and the projection's bias are its whole output.
        """
        of_heads = _of_heads(values, self.n_heads)
        by_head: list[Tensor] = []
        for head in range(self.n_heads):
            alone = torch.zeros_like(of_heads)
            alone[:, head] = of_heads[:, head]
            by_head.append(self._projected(alone.flatten(1)))
        return torch.stack(by_head, dim=1)

    def summed(self, values: Float[Tensor, "n n_kv_heads d_value"]) -> Float[Tensor, "n d_model"]:
        """What all query heads write together, as float32 on the CPU."""
        return self._projected(_of_heads(values, self.n_heads).flatten(1))

    def added(self, writes: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Writes as they are added to the residual stream, each alone: normed where the block is.

        Args:
            writes: of `heads` or `summed`.

        Returns:
            float32 on the CPU.
        """
        added = writes.flatten(0, -2)[:, None].to(self.like.device, self.like.dtype)
        with torch.inference_mode(), self.lm.turn("measurement"):
            for module in self.after:
                added = module(added)
        return added[:, 0].float().cpu().reshape(writes.shape)

    def _projected(self, given: Float[Tensor, "n width"]) -> Float[Tensor, "n d_model"]:
        with torch.inference_mode(), self.lm.turn("measurement"):
            rows = given.to(self.like.device, self.like.dtype)[:, None]
            bias = self.projection(torch.zeros_like(rows[:1]))
            return (self.projection(rows) - bias)[:, 0].float().cpu()


def head_writes(lm: LanguageModel) -> dict[int, LayerWrites]:
    """Find the output projection of every layer with keys, by a pass of one token.

    Args:
        lm: the model.

    Returns:
        Layer -> its way to the residual stream.

    Raises:
        InputError: where no linear module takes the heads' values as they are (they are gated or
            normed first), or more than a norm comes between it and the residual stream.
    """
    seen: dict[int, list[Seen]] = {layer: [] for layer in lm.anatomy.key_layers}

    def note(module: Any, args: Any, output: Any, layer: int) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            seen[layer].append((module, args[0], output))

    with torch.inference_mode(), lm.turn("measurement") as turn:
        for layer in seen:
            for path, module in lm.blocks[layer].named_modules():
                if path:
                    turn.after(module, partial(note, layer=layer))
        calls = calls_at_origin(lm.hf, lm.anatomy, lm.info.name)
    found: dict[int, LayerWrites] = {}
    with torch.inference_mode(), lm.turn("measurement"):
        for layer, modules in seen.items():
            values = calls[layer].key_and_value()[1][:, :, 0]
            writes = _writes(lm, modules, values, lm.anatomy.layers[layer])
            if writes is not None:
                found[layer] = writes
    missing = [layer for layer in seen if layer not in found]
    if missing:
        raise InputError(
            f"{phrase(missing)} of {lm.info.name}: no output projection takes the heads' values "
            "as they are and gives what is added, so what they write cannot be told"
        )
    return found


def _writes(
    lm: LanguageModel, seen: list[Seen], values: Tensor, layer: LayerAnatomy
) -> LayerWrites | None:
    of_heads = _of_heads(values.float(), layer.n_heads)[0]
    for i, (module, given, output) in reversed(list(enumerate(seen))):
        if _holds(given, of_heads, layer.sink) and _holds_alone(_is_linear, module, given):
            after = _after(output, seen[i + 1 :])
            if after is None:
                return None
            return LayerWrites(lm, layer.n_heads, module, after, given)
    return None


def _of_heads(
    values: Float[Tensor, "n n_kv_heads d_value"], n_heads: int
) -> Float[Tensor, "n n_heads d_value"]:
    """The value that each query head reads."""
    return values.repeat_interleave(n_heads // values.shape[1], dim=1)


def _holds(given: Tensor, of_heads: Float[Tensor, "n_heads d_value"], sink: bool) -> bool:
    """Whether a module was given the heads' values, each times its weight: below 1 by a sink."""
    if given.numel() != of_heads.numel():
        return False
    parts = given.reshape(of_heads.shape).to(of_heads.device).float()
    share = (parts * of_heads).sum(-1, keepdim=True) / of_heads.square().sum(-1, keepdim=True)
    if not sink:
        share = torch.ones_like(share)
    limit = TOLERANCE * of_heads.abs().max()
    return bool(((parts - share * of_heads).abs() <= limit).all())


def _is_linear(module: Module, given: Tensor) -> bool:
    """Whether a module, its bias aside, makes twice as much of twice the input: no norm does."""
    nothing, once, twice = (module(scale * given) for scale in (0, 1, 2))
    return _close(twice - once, once - nothing)


def _is_norm(module: Module, given: Tensor) -> bool:
    """Whether a module makes the same of twice the input."""
    return _close(module(2 * given), module(given))


def _close(some: Tensor, others: Tensor) -> bool:
    return bool(((some - others).abs() <= TOLERANCE * others.abs().max()).all())


def _holds_alone(test: Callable[[Module, Tensor], bool], module: Module, given: Tensor) -> bool:
    """Whether a test holds; not for a module that asks for more than one tensor."""
    try:
        return test(module, given)
    except TypeError:
        return False


def _after(state: Tensor, seen: list[Seen]) -> tuple[Module, ...] | None:
    """The modules that take the projection's output, alone and one after the other.

    Returns:
        Norms and dropout; None where others do, so that writes are not what is added.
    """
    found: list[Module] = []
    for module, given, output in seen:
        if given.shape == state.shape and torch.equal(given, state):
            if not any(_holds_alone(test, module, given) for test in (_is_linear, _is_norm)):
                return None
            found.append(module)
            state = output
    return tuple(found)
