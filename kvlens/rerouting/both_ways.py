"""Both ways: chosen layers whose tokens see those after them, too, by an edit of their masks.

It knows masks alone: which tokens see each other, and nothing of keys, values and prefixes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvlens.models.attention_call import MASK, AttentionCall
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import DISTANCE_BIASES
from kvlens.rerouting.reach import Mask, additive_mask
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch


@contextlib.contextmanager
def both_ways(
    lm: LanguageModel, opened: Collection[int], first_hidden: Collection[int], batch: TokenBatch
) -> Iterator[None]:
    """Open layers of the raw model for every pass inside the context.

    What a token sees there is what it saw, and every token that saw it: a window becomes one to
    both sides. Padding stays hidden.

    Args:
        lm: the model.
        opened: block indices that have keys.
        first_hidden: those of `opened` in which the first real token is seen by itself alone.
        batch: what the passes run on.

    Yields:
        Nothing.

    Raises:
        InputError: inside the context for a mask of another shape, and for keys that are biased by
            their distance.
    """
    real = batch.mask.bool()
    first = real.long().argmax(1)
    with lm.turn() as turn:
        for layer in opened:
            hidden = first if layer in first_hidden else None
            hook = _before_attention(real, hidden)
            turn.before(lm.attention(layer), hook, with_kwargs=True)
        yield


def _before_attention(
    real: Bool[Tensor, "batch seq_len"], first: Tensor | None
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    def hook(
        module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        call = AttentionCall.of(module, args, kwargs)
        if any(call.arguments.get(name) is not None for name in DISTANCE_BIASES):
            raise InputError("its keys are biased by distance (ALiBi): none lies behind a token")
        mask = call.arguments.get(MASK)
        if mask is not None and not isinstance(mask, Tensor):
            raise InputError("its layers are given several masks at once: none can be opened")
        mask = opened_mask(mask, call.states, real, first)
        return (), {**call.arguments, MASK: mask}

    return hook


def opened_mask(
    mask: Mask | None,
    states: Float[Tensor, "batch seq_len d_model"],
    real: Bool[Tensor, "batch seq_len"],
    first: Tensor | None = None,
) -> Float[Tensor, "batch 1 seq_len seq_len"]:
    """An additive mask of both directions.

    Args:
        mask: as the attention module is given it; None is causal.
        states: what enters the module.
        real: whether a token is no padding.
        first: index of each row's first real token, hidden from all others; None: it is seen.

    Returns:
        The mask.

    Raises:
        InputError: for a mask without a column a token, as fused kernels of their own take it.
    """
    lowest = torch.finfo(states.dtype).min
    before = additive_mask(mask, states) > lowest / 2
    real = real.to(before.device)
    seen = (before | before.mT) & real[:, None, None, :]
    if first is not None:
        row = torch.arange(len(real), device=before.device)
        place = first.to(before.device)
        sees_itself = seen[row, :, place, place]
        seen[row, :, :, place] = False
        seen[row, :, place, place] = sees_itself
    return torch.zeros_like(seen, dtype=states.dtype).masked_fill_(~seen, lowest)
