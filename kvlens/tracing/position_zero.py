"""Position 0: how long the first real token's hidden state is, against those of the other tokens.

Trained decoders write a massive activation there (Sun et al. 2024, "Massive Activations in Large
Language Models", arXiv:2402.17762). Which block does is read off these numbers in
`kvlens.dimension.sink`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def length_ratios(
    states: Float[Tensor, "batch seq_len d_model"], mask: Int[Tensor, "batch seq_len"]
) -> Float[Tensor, " batch"]:
    """The length of position 0's state over the median length of the other tokens' states.

    Args:
        states: hidden states of any dtype; those of padding may be anything.
        mask: 1 on real tokens, padding on either side.

    Returns:
        float32; 0 for a text of one token, where there is no other.
    """
    lengths = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)
    row = torch.arange(len(lengths), device=lengths.device)
    first = mask.cumsum(1).eq(1).int().argmax(1)  # the first real token
    others = lengths.masked_fill(mask == 0, torch.nan)
    others[row, first] = torch.nan
    ratios = lengths[row, first] / others.nanquantile(0.5, dim=1)
    return torch.where(mask.sum(1) > 1, ratios, 0.0)


class PositionZero:
    """The ratios of all texts, before the first block and after each, filled batch by batch."""

    def __init__(self, n_texts: int, n_layers: int):
        """Nothing is known yet."""
        self._ratios = torch.full((n_texts, n_layers + 1), torch.nan, dtype=torch.float32)

    def store(
        self, column: int, rows: Int[Tensor, " batch"], ratios: Float[Tensor, " batch"]
    ) -> None:
        """Keep the ratios of a batch.

        Args:
            column: 0 before the first block, else 1 + the index of the block before.
            rows: which texts they are of.
            ratios: see `length_ratios`; both on the CPU.
        """
        self._ratios[rows, column] = ratios

    def whole(self) -> Float[Tensor, "n_texts n_boundaries"] | None:
        """The ratios; None where one is missing, or its states are not finite."""
        return self._ratios if bool(self._ratios.isfinite().all()) else None

    def whole_or(self, unknown: float) -> Float[Tensor, "n_texts n_boundaries"]:
        """The ratios, with a number in place of each that is missing or not finite."""
        return torch.where(self._ratios.isfinite(), self._ratios, unknown)
