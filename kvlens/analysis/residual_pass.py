"""Residual pass: what one text's pass shows of its residual stream, and what attention adds to it.

Attention gives something, and its block adds it, as it is or times a factor. That it does so is
seen on a module of the block: on one that is given the states with attention added (attention and
MLP in sequence), or on one that gives what the block adds beside it (in parallel).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.analysis.head_writes import LayerWrites
from kvlens.models.attention_call import states_of
from kvlens.models.forward import finite_or_refuse, hidden_or_refuse
from kvlens.models.language_model import LanguageModel
from kvlens.models.turns import Turn

TOLERANCE = 1e-2  # of the largest number, in the coarsest dtype
SMALLEST_FACTOR = 1e-3  # of what attention gives, that a block adds

States = Float[Tensor, "seq_len d_model"]


@dataclass
class ResidualPass:
    """Filled by hooks, while one text runs; float32 on the CPU.

    Attributes:
        lm: the model.
        writes: layer -> the way of its heads to the residual stream; of others no more is noted.
        before: the states that each block is given.
        after: those that it gives.
        values: what each output projection is given: the heads' values, ``[seq_len, width]``.
        projected: what it makes of them.
        attention: what becomes of that until it is added.
        factors: what the block multiplies it by when it adds it; of a layer without one it is not
            known what is added.
    """

    lm: LanguageModel
    writes: dict[int, LayerWrites]
    before: list[States] = field(default_factory=list)
    after: list[States] = field(default_factory=list)
    values: dict[int, Tensor] = field(default_factory=dict)
    projected: dict[int, States] = field(default_factory=dict)
    attention: dict[int, States] = field(default_factory=dict)
    factors: dict[int, float] = field(default_factory=dict)
    _given: list[States] = field(default_factory=list)
    _made: list[States] = field(default_factory=list)

    def hang(self, turn: Turn, n_blocks: int) -> None:
        """Hooks on the first blocks, for the time of a turn."""
        for layer in range(n_blocks):
            block = self.lm.blocks[layer]
            turn.before(block, partial(self._note_before, layer=layer), with_kwargs=True)
            if layer in self.writes:
                for module in block.modules():
                    if module is not block:
                        turn.after(module, partial(self._note_module, layer=layer))
            turn.after(block, partial(self._note_after, layer=layer))

    def _note_before(self, module: Any, args: Any, kwargs: Any, layer: int) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        hidden_or_refuse(states, layer, self.lm.info)
        self.before.append(states[0].float().cpu())

    def _note_module(self, module: Any, args: Any, output: Any, layer: int) -> None:
        if not args or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
            return
        shape = self.before[layer].shape
        if module is self.writes[layer].projection:
            self.values[layer] = args[0].reshape(shape[0], -1).float().cpu()
            self.projected[layer] = self.attention[layer] = output.reshape(shape).float().cpu()
            return
        given, made = (_of_shape(states, shape) for states in (args[0], output))
        if module in self.writes[layer].after and _same(given, self.attention.get(layer)):
            self.attention[layer] = output.reshape(shape).float().cpu()
            return
        self._given += [given] if given is not None else []
        self._made += [made] if made is not None else []

    def _note_after(self, module: Any, args: Any, output: Any, layer: int) -> None:
        states = states_of(output)
        hidden_or_refuse(states, layer, self.lm.info)
        finite_or_refuse(states, f"hidden of layer {layer}", self.lm.info)
        self.after.append(states[0].float().cpu())
        if layer in self.attention:
            rounding = torch.finfo(states.dtype).eps
            factor = self._factor(layer, rounding)
            self.factors |= {layer: factor} if factor is not None else {}
        self._given.clear()
        self._made.clear()

    def _factor(self, layer: int, rounding: float) -> float | None:
        """What the block multiplies attention's output by (1, but for Granite); None: not seen."""
        attention, before, after = self.attention[layer], self.before[layer], self.after[layer]
        added = [given - before for given in self._given]
        added += [after - before - made for made in self._made]
        rounded = 2 * rounding * (before.abs() + after.abs())
        for candidate in added:
            factor = float((candidate * attention).sum() / attention.square().sum())
            slack = TOLERANCE * attention.abs().max() * abs(factor) + rounded
            close = bool(((candidate - factor * attention).abs() <= slack).all())
            if close and abs(factor) > SMALLEST_FACTOR:
                return factor
        return None


def _of_shape(states: Tensor, shape: torch.Size) -> States | None:
    """One text's states; None for what is of another size."""
    return states.reshape(shape).float().cpu() if states.numel() == shape.numel() else None


def _same(some: States | None, others: States | None) -> bool:
    return some is not None and others is not None and torch.equal(some, others)
