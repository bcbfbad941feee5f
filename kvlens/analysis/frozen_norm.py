"""Frozen norm: with each token's own scale held, a norm is a linear map, and sums stay sums.

RMSNorm and LayerNorm multiply a state by one number a token and by a gain a dimension; LayerNorm
takes the mean over the width off before and adds a bias after. So what was added up before a norm
can be told apart after it, exactly: the norm's scale belongs to the whole state and is the same for
all its parts. What a norm does is found by running it on two states, so none is known by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.store.errors import InputError

TOLERANCE = 1e-2  # of the largest number, in the coarsest dtype

Rows = Float[Tensor, "rows d_model"]


@dataclass(frozen=True)
class FrozenNorm:
    """``scale * gain * (state - mean if it centres) + bias``, with a scale a token.

    Attributes:
        gain: float64 ``[d_model]``.
        bias: float64 ``[d_model]``; zeros where it has none.
        centres: whether the mean over the width is taken off first.
    """

    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centres: bool

    @classmethod
    def of(cls, norm: Callable[[Rows], Rows], width: int) -> FrozenNorm:
        """What a norm, or no norm at all, does.

        Args:
            norm: states -> normed states, float32 on the CPU.
            width: how many numbers a state has.

        Returns:
            It, without any scale.
        """
        signs = torch.ones(width)
        signs[1::2] = -1
        flat, alternating, nothing = norm(
            torch.stack([torch.ones(width), signs, torch.zeros(width)])
        ).double()
        centres = bool(width % 2 == 0 and (flat - nothing).abs().max() <= _slack(alternating))
        return cls((alternating - nothing) * signs, nothing, centres)

    def __call__(self, states: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """States, or parts of states, after the map, without scale and bias; float64."""
        states = states.double()
        if self.centres:
            states = states - states.mean(-1, keepdim=True)
        return self.gain * states

    def scales(
        self, states: Float[Tensor, "n d_model"], normed: Float[Tensor, "n d_model"]
    ) -> Float[Tensor, " n"]:
        """The scale that the norm gave each state.

        Args:
            states: before the norm.
            normed: the same after it.

        Returns:
            float64.

        Raises:
            InputError: where no scale makes one of the other, so that it is another kind of map.
        """
        mapped = self(states)
        wanted = normed.double() - self.bias
        squares = mapped.square().sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
        scales = (mapped * wanted).sum(-1) / squares
        difference = (scales[:, None] * mapped - wanted).abs().max()
        if not difference <= _slack(normed):
            raise InputError(
                "a norm of this model is not a scale a token and a gain a dimension: what it makes "
                "of a state is not the sum of what it makes of its parts"
            )
        return scales


def _slack(states: Tensor) -> float:
    return TOLERANCE * float(states.abs().max())
