"""Partial pass: many routes of one batch, each from its lowest layer on.

It knows where a re-routed pass begins to differ from the plain one, and nothing of how a prefix
is put in front.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import reroute
from kvlens.texts.tokens import TokenBatch


def final_states(
    lm: LanguageModel, batch: TokenBatch, routes: Sequence[Route]
) -> Iterator[Float[Tensor, "batch seq_len d_model"]]:
    """Hidden states after the final norm: of the plain model, then of each route.

    Equal to a whole re-routed pass each, at the cost of the blocks from the route's lowest layer
    on.

    Args:
        lm: the model.
        batch: padded on either side.
        routes: what is re-routed; a route without layers gives the plain states again.

    Yields:
        1 + len(routes) times states ``[batch, seq_len, d_model]``.

    Raises:
        InputError: as `reroute` does.
    """
    lowest = {min(route.layers) for route in routes if route.layers}
    with _recorded_inputs(lm, lowest) as inputs:
        plain = run_base(lm, batch).last_hidden_state
    yield plain
    for route in routes:
        if route.layers:
            first = min(route.layers)
            yield _rerouted(lm, batch, route, first, inputs[first])
        else:
            yield plain


def _rerouted(
    lm: LanguageModel,
    batch: TokenBatch,
    route: Route,
    first: int,
    states: Float[Tensor, "batch seq_len d_model"],
) -> Float[Tensor, "batch seq_len d_model"]:
    """The final states of a route that starts at block `first`, which `states` enter."""
    with _skipped(lm, first, states), reroute(lm, route) as rerouting:
        rerouting.last = batch.last
        return run_base(lm, batch).last_hidden_state


@contextlib.contextmanager
def _recorded_inputs(
    lm: LanguageModel, blocks: Collection[int]
) -> Iterator[dict[int, Float[Tensor, "batch seq_len d_model"]]]:
    """What enters each of these blocks in a pass inside the context, by block index."""
    inputs: dict[int, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for index in blocks:

            def keep(block: Any, args: tuple[Any, ...], index: int = index) -> None:
                inputs[index] = args[0]

            hooks.enter_context(lm.blocks[index].register_forward_pre_hook(keep))
        yield inputs


@contextlib.contextmanager
def _skipped(
    lm: LanguageModel, first: int, states: Float[Tensor, "batch seq_len d_model"]
) -> Iterator[None]:
    """Blocks below `first` are not run: what enters block `first` is `states`.

    The blocks stay where they are, since models index masks and rotary tables by their number.
    """
    skipped = list(lm.blocks[:first])
    replaced = [vars(block).get("forward") for block in skipped]
    try:
        for block in skipped:
            block.forward = lambda *args, **kwargs: states
        yield
    finally:
        for block, forward in zip(skipped, replaced, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward
