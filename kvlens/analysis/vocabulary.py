"""Vocabulary: what a state says in the model's own words, through its own modules.

A state of the residual stream goes where the last block's output goes: through what the decoder
does after its blocks (the final norm) and through what the model makes of that (LM head, its bias,
scale and soft cap). Both are run, not imitated, so none of them is known by name.

The final norm is applied to each state ALONE, also to what one head writes, which never stands in
the residual stream by itself. It divides by the state's length, so which tokens come first depends
on the direction alone, and writes of all sizes can be compared. The price: the weights are those
of a model that would see nothing but this state, not its share of the next token's logits, and a
norm with a bias adds it to each.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from kvlens.models.attention_call import states_of
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError, one_line, shortened

PROBE = (1, 2, 3)  # tokens of the pass that finds the modules
NUMBERS = 1 << 24  # logits held at a time


@dataclass(frozen=True)
class Vocabulary:
    """A model's way from states to tokens.

    Attributes:
        lm: the model.
        after: what the decoder applies after its last block, in order.
        output: what the decoder gives for one token.
    """

    lm: LanguageModel
    after: tuple[Module, ...]
    output: Any

    @classmethod
    def of(cls, lm: LanguageModel) -> Vocabulary:
        """Find it, by a pass of three tokens.

        Args:
            lm: the model.

        Returns:
            The way to its tokens.

        Raises:
            InputError: where what follows the last block is no chain of modules, or the model
                gives no logits.
        """
        children = [child for child in lm.base.children() if child is not lm.blocks]
        seen: list[tuple[Module, Tensor, Tensor]] = []
        ends: list[Tensor] = []

        def note(module: Any, args: Any, output: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                seen.append((module, args[0], output))

        with torch.inference_mode(), lm.turn("measurement") as turn:
            for child in children:
                turn.after(child, note)
            turn.after(lm.blocks[-1], lambda module, args, output: ends.append(states_of(output)))
            output = lm.base(torch.tensor([PROBE], device=lm.device), use_cache=False)
            after = _chain(ends[-1], seen, output.last_hidden_state)
            if after is None:
                raise InputError(
                    f"{lm.info.name} does more after its last block than apply its final norm: "
                    "its states cannot be read as words"
                )
            output = lm.base(torch.tensor([PROBE[:1]], device=lm.device), use_cache=False)
        vocabulary = cls(lm, after, output)
        vocabulary.logits(torch.zeros(1, lm.info.d_model))
        return vocabulary

    def normed(self, states: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """States of the residual stream after the final norm.

        Args:
            states: float32, as after a block.

        Returns:
            float32 on the CPU; what the head is given.
        """
        like = self.output.last_hidden_state
        with torch.inference_mode(), self.lm.turn("measurement"):
            normed = states.to(like.device, like.dtype)[:, None]
            for module in self.after:
                normed = module(normed)
        return normed[:, 0].float().cpu()

    def logits(self, normed: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """What the model makes of states after the final norm.

        Args:
            normed: float32, see `normed`.

        Returns:
            float32 on the CPU, scaled and soft-capped as the model does it.

        Raises:
            InputError: where the model does not run on states of another origin.
        """
        lm = self.lm
        ids = torch.zeros(len(normed), 1, dtype=torch.long, device=lm.device)
        with torch.inference_mode(), lm.turn("measurement") as turn:
            turn.replace(lm.base, partial(self._posing, states=normed[:, None]))
            try:
                output = lm.hf(ids, use_cache=False)
            except Exception as error:  # whatever a model of others raises
                problem = f"{lm.info.name} gives no logits for states: {one_line(error)}"
                raise InputError(shortened(problem)) from error
        return output.logits[:, -1].float().cpu()

    def batches(self, normed: Float[Tensor, "n d_model"]) -> Iterator[Float[Tensor, "rows vocab"]]:
        """The logits of many states, a few rows at a time, in order.

        Args:
            normed: float32, see `normed`.
        """
        for rows in normed.split(max(1, NUMBERS // self.lm.info.vocab_size)):
            yield self.logits(rows)

    def _posing(self, *args: Any, states: Tensor, **options: Any) -> Any:
        """Poses as the decoder: gives states in place of its own."""
        like = self.output.last_hidden_state
        output = copy.copy(self.output)
        output.last_hidden_state = states.to(like.device, like.dtype)
        return output


def _chain(
    state: Tensor, seen: list[tuple[Module, Tensor, Tensor]], end: Tensor
) -> tuple[Module, ...] | None:
    """The modules that led from a state to the end, in order; None where they do not."""
    found: list[Module] = []
    for module, given, output in seen:
        if given.shape == state.shape and torch.equal(given, state):
            found.append(module)
            state = output
    return tuple(found) if torch.equal(state, end) else None
