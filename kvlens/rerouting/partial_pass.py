"""Partial pass: many routes of one batch, each from its lowest layer on.

It knows where a re-routed pass begins to differ from the plain one, and nothing of how a prefix
is put in front.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import reroute
from kvlens.texts.batches import TokenBatch

States = Float[Tensor, "batch seq_len d_model"]


def final_states(lm: LanguageModel, batch: TokenBatch, routes: Sequence[Route]) -> Iterator[States]:
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
    plain, inputs = _plain(lm, batch, lowest)
    yield plain
    for route in routes:
        if route.layers:
            first = min(route.layers)
            yield _rerouted(lm, batch, route, first, inputs[first])
        else:
            yield plain


def _plain(
    lm: LanguageModel, batch: TokenBatch, blocks: Collection[int]
) -> tuple[States, dict[int, States]]:
    """The final states of the plain model, and what enters each of these blocks, by its index."""
    inputs: dict[int, Tensor] = {}

    def keep(block: Any, args: tuple[Any, ...], index: int) -> None:
        inputs[index] = args[0]

    with lm.turn("measurement") as turn:
        for index in blocks:
            turn.before(lm.blocks[index], partial(keep, index=index))
        plain = run_base(lm, batch).last_hidden_state
    return plain, inputs


def _rerouted(
    lm: LanguageModel, batch: TokenBatch, route: Route, first: int, states: States
) -> States:
    """The final states of a route that starts at block `first`, which `states` enter.

    Blocks below it are not run. They stay where they are, since models index masks and rotary
    tables by their number.
    """
    with lm.turn("measurement") as turn, reroute(lm, route) as rerouting:
        rerouting.last = batch.last
        for block in lm.blocks[:first]:
            turn.replace(block, lambda *args, **kwargs: states)
        return run_base(lm, batch).last_hidden_state
