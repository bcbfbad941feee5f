"""Partial pass: many routes of one batch, each from its lowest layer on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import reroute
from kvlens.texts.tokens import TokenBatch

LayerBias = tuple[tuple[int, ...], float]


@contextlib.contextmanager
def _skipping(lm: LanguageModel, first: int, states: torch.Tensor) -> Iterator[None]:
    """Blocks below `first` are not run: what enters block `first` is `states` [batch, seq_len, d_model].

    The blocks stay where they are, since models index masks and rotary tables by their number.
    """
    skipped = list(lm.blocks[:first])
    own = [vars(block).get("forward") for block in skipped]
    try:
        for block in skipped:
            block.forward = lambda *args, **kwargs: states
        yield
    finally:
        for block, forward in zip(skipped, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward


def final_states(
    lm: LanguageModel, batch: TokenBatch, sets: Sequence[LayerBias], position: str = "keep"
) -> Iterator[torch.Tensor]:
    """Hidden states after the final norm [batch, seq_len, d_model]: plain, then for each (layers, bias) of `sets`.

    Equal to a whole re-routed pass each, at the cost of the blocks from the set's lowest layer on.
    Raises InputError as `reroute` does.
    """
    inputs: dict[int, torch.Tensor] = {}
    handles = [
        lm.blocks[i].register_forward_pre_hook(lambda block, args, i=i: inputs.update({i: args[0]}))
        for i in {min(layers) for layers, _ in sets if layers}
    ]
    try:
        plain = run_base(lm, batch).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    yield plain
    for layers, bias in sets:
        if not layers:
            yield plain
            continue
        with (
            _skipping(lm, min(layers), inputs[min(layers)]),
            reroute(lm, layers, bias, position) as routing,
        ):
            routing.last = batch.last
            states = run_base(lm, batch).last_hidden_state
        yield states
