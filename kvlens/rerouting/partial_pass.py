"""Partial pass: many routes of one batch, each from its lowest layer on.

It knows where a re-routed pass begins to differ from the plain one, and nothing of how a prefix
is put in front.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.door import reroute
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
    firsts = [_first_block(lm, route) for route in routes if route.layers]
    plain = _run_plain(lm, batch, firsts)
    yield plain.states
    for route in routes:
        if route.layers:
            yield _rerouted(lm, batch, route, plain)
        else:
            yield plain.states


def _first_block(lm: LanguageModel, route: Route) -> int:
    """Where a route's pass begins to differ from the plain one, or 0: all has to run."""
    # Blocks above read keys that blocks below have stored in the same pass.
    if any(layer.shares == "stores" for layer in lm.anatomy.layers):
        return 0
    return min(route.layers)


@dataclass
class _Plain:
    """A pass through the plain model.

    Attributes:
        inputs: what enters the blocks where routes begin, by their index.
        gives_tuples: whether its blocks give more than states.
        states: after the final norm.
    """

    inputs: dict[int, States] = field(default_factory=dict)
    gives_tuples: bool = False
    states: States = field(init=False)

    def on_input(self, block: Any, args: Any, options: dict[str, Any], index: int) -> None:
        """Note what enters a block."""
        self.inputs[index] = args[0] if args else options["hidden_states"]

    def on_output(self, block: Any, args: Any, output: Any) -> None:
        """Note what a block gives."""
        self.gives_tuples = isinstance(output, tuple)


def _run_plain(lm: LanguageModel, batch: TokenBatch, blocks: Collection[int]) -> _Plain:
    plain = _Plain()
    with lm.turn("measurement") as turn:
        for index in set(blocks):
            turn.before(lm.blocks[index], partial(plain.on_input, index=index), with_kwargs=True)
        turn.after(lm.blocks[0], plain.on_output)
        plain.states = run_base(lm, batch).last_hidden_state
    return plain


def _rerouted(lm: LanguageModel, batch: TokenBatch, route: Route, plain: _Plain) -> States:
    """The final states of a route, from its first block on.

    Blocks below it are not run. They stay where they are, since models index masks and rotary
    tables by their number.
    """
    first = _first_block(lm, route)
    states = plain.inputs[first]
    output = (states, None) if plain.gives_tuples else states
    with lm.turn("measurement") as turn, reroute(lm, route) as rerouting:
        rerouting.follow(batch)
        for block in lm.blocks[:first]:
            turn.replace(block, lambda *args, **kwargs: output)
        return run_base(lm, batch).last_hidden_state
