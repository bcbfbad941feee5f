"""Watch: what methods want to see of one forward pass, and the pass.

Whatever is asked for, the pass is run once, and no block above the highest that is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.readout import LAST, Readout, block_of
from kvlens.models.attention_call import states_of
from kvlens.models.forward import hidden_or_refuse, run_base
from kvlens.models.language_model import LanguageModel
from kvlens.models.values import Values, watch_values
from kvlens.texts.batches import TokenBatch

States = Float[Tensor, "batch seq_len d_model"]
KeepValues = Callable[[Values], None]
KeepOutput = Callable[[States], None]


class Watch:
    """Asked first, then run, then read.

    Attributes:
        batch: what the pass runs on.
    """

    def __init__(self, lm: LanguageModel, batch: TokenBatch):
        """A pass of `lm` on `batch` that is still to be run."""
        self.batch = batch
        self._lm = lm
        self._values: dict[int, list[KeepValues]] = {}
        self._attention: dict[int, list[KeepOutput]] = {}
        self._blocks: dict[int, Any] = {}  # block -> what it gave
        self._to_the_end = False
        self._final: Any = None

    def states(self, readout: Readout = LAST, final_norm: bool = True) -> Callable[[], States]:
        """Ask for the hidden states after a block.

        Args:
            readout: the block, see `block_of`.
            final_norm: give them as the decoder would where it ended with that block: after its
                final norm.

        Returns:
            Gives the states when the pass is run.
        """
        block = block_of(readout, self._lm.info.n_layers)
        if block == LAST and final_norm:
            self._to_the_end = True
            return lambda: self._final
        index = block % self._lm.info.n_layers
        self._blocks[index] = None
        return partial(self._normed if final_norm else self._bare, index)

    def values(self, layer: int, keep: KeepValues) -> None:
        """Ask for the values of a layer's attention: `keep` is called with them."""
        self._values.setdefault(layer, []).append(keep)

    def attention(self, layer: int, keep: KeepOutput) -> None:
        """Ask for what a layer's attention module gives: `keep` is called with it."""
        self._attention.setdefault(layer, []).append(keep)

    def run(self) -> None:
        """Run the pass; raises InputError as `run_base` does."""
        highest = max([*self._blocks, *self._values, *self._attention], default=LAST)
        with self._lm.turn() as turn:
            watch_values(turn, self._lm, sorted(self._values), self._keep_values)
            for layer in self._attention:
                keep = partial(self._keep_attention, layer=layer)
                turn.after(self._lm.attention(layer), keep)
            for block in self._blocks:
                turn.after(self._lm.blocks[block], partial(self._keep_block, block=block))
            if not self._to_the_end:
                turn.after(self._lm.blocks[highest], _stop)
            with contextlib.suppress(_Enough):
                self._final = run_base(self._lm, self.batch).last_hidden_state

    def _keep_values(self, layer: int, values: Values) -> None:
        for keep in self._values[layer]:
            keep(values)

    def _keep_attention(self, module: Any, args: Any, output: Any, layer: int) -> None:
        for keep in self._attention[layer]:
            keep(states_of(output))

    def _keep_block(self, module: Any, args: Any, output: Any, block: int) -> None:
        self._blocks[block] = output

    def _bare(self, block: int) -> States:
        """What came out of a block."""
        states = states_of(self._blocks[block])
        hidden_or_refuse(states, block, self._lm.info)
        return states

    def _normed(self, block: int) -> States:
        """What a decoder makes of it that ends there.

        All blocks are passed over, so that what follows on them is the model's own code, whatever
        it is. They stay where they are, since models index masks and rotary tables by their number.
        """
        output = self._blocks[block]
        with self._lm.turn() as turn:
            for passed_over in self._lm.blocks:
                turn.replace(passed_over, lambda *args, **kwargs: output)
            return run_base(self._lm, self.batch).last_hidden_state


def _stop(module: Any, args: Any, output: Any) -> None:
    raise _Enough


class _Enough(Exception):
    """Nothing that comes later is asked for."""
