"""Partial pass: many routes of one batch, each from its lowest layer on.

It knows where a changed pass begins to differ from the plain one, and nothing of how a prefix is
put in front.
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
from kvlens.models.turns import Turn
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
    firsts = [first_block(lm, min(route.layers)) for route in routes if route.layers]
    plain = run_plain(lm, batch, firsts)
    yield plain.states
    for route in routes:
        if route.layers:
            yield _rerouted(lm, batch, route, plain)
        else:
            yield plain.states


def first_block(lm: LanguageModel, layer: int) -> int:
    """Where a pass that is changed from a layer on begins to differ, or 0: all has to run."""
    # Blocks above read keys that blocks below have stored in the same pass.
    if any(each.shares == "stores" for each in lm.anatomy.layers):
        return 0
    return layer


@dataclass
class PlainPass:
    """A pass through the plain model.

    Attributes:
        inputs: what enters the blocks where changes begin, by their index.
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

    def stand_below(self, turn: Turn, lm: LanguageModel, first: int) -> None:
        """Let what enters block `first` be as it was, and run no block below it, for a turn.

        They stay where they are, since models index masks and rotary tables by their number.
        """
        states = self.inputs[first]
        output = (states, None) if self.gives_tuples else states
        for block in lm.blocks[:first]:
            turn.replace(block, lambda *args, **kwargs: output)


def run_plain(lm: LanguageModel, batch: TokenBatch, blocks: Collection[int]) -> PlainPass:
    """Run the plain model, and note what enters some blocks."""
    plain = PlainPass()
    with lm.turn("measurement") as turn:
        for index in set(blocks):
            turn.before(lm.blocks[index], partial(plain.on_input, index=index), with_kwargs=True)
        turn.after(lm.blocks[0], plain.on_output)
        plain.states = run_base(lm, batch).last_hidden_state
    return plain


def _rerouted(lm: LanguageModel, batch: TokenBatch, route: Route, plain: PlainPass) -> States:
    """The final states of a route, from its first block on."""
    with lm.turn("measurement") as turn, reroute(lm, route) as rerouting:
        rerouting.follow(batch)
        plain.stand_below(turn, lm, first_block(lm, min(route.layers)))
        return run_base(lm, batch).last_hidden_state
