"""Binned sums: mean and spread of numbers over the tokens of each position bin, streaming."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from kvlens.models.forward import finite_or_refuse
from kvlens.models.info import ModelInfo


@dataclass(frozen=True)
class Placement:
    """Which bin, and which end of its text, each token of a batch belongs to; float64.

    Attributes:
        bins: 1 where a token lies in a bin; 0 everywhere for tokens that do not count.
        without_final: the same, but the final token counts nowhere.
        ends: a token's share of the first and of the last tenth (rounded up) of its text; NaN where
            a text has no tokens that count.
    """

    bins: Float[Tensor, "batch seq_len bins"]
    without_final: Float[Tensor, "batch seq_len bins"]
    ends: Float[Tensor, "batch seq_len 2"]

    @classmethod
    def of(
        cls, counted: Bool[Tensor, "batch seq_len"], last: Int[Tensor, " batch"], bins: int
    ) -> Placement:
        """Where the tokens of a batch belong.

        Args:
            counted: the tokens that count; the i-th of n lies in bin ``floor(bins * i / n)``.
            last: index of each text's final token.
            bins: how many.

        Returns:
            The placement, on the CPU.
        """
        counted = counted.cpu()
        last = last.cpu()
        rank = counted.cumsum(1) - 1
        n = counted.sum(1, keepdim=True)
        index = (rank * bins // n.clamp(min=1)).clamp(0, bins - 1)
        placed = one_hot(index, bins).double() * counted[..., None]
        without_final = placed.clone()
        without_final[torch.arange(len(last)), last] = 0
        tenth = -(-n // 10)
        in_ends = [counted & (rank < tenth), counted & (rank >= n - tenth)]
        ends = torch.stack(in_ends, dim=-1).double()
        return cls(placed, without_final, ends / ends.sum(1, keepdim=True))


class BinnedSums:
    """Count, sum and sum of squares by quantity, layer, head and bin, in float64."""

    def __init__(self, info: ModelInfo):
        self.info = info
        self.sums: dict[tuple[str, int], Float[Tensor, "3 n_heads bins"]] = {}

    def add(
        self,
        name: str,
        layer: int,
        values: Float[Tensor, "batch n_heads seq_len"],
        bins: Float[Tensor, "batch seq_len bins"],
    ) -> None:
        """Add a batch.

        Args:
            name: of the quantity.
            layer: whose it is.
            values: one a head (or 1) and token.
            bins: which tokens count where, see `Placement`.

        Raises:
            InputError: when there is NaN or infinity among the values.
        """
        values = values.cpu().double()
        finite_or_refuse(values, f"{name} at layer {layer}", self.info)
        powers = torch.stack([torch.ones_like(values), values, values.square()])
        self._add((name, layer), torch.einsum("pbht,btk->phk", powers, bins))

    def add_all(self, other: BinnedSums) -> None:
        """Add what others have summed."""
        for place, sums in other.sums.items():
            self._add(place, sums)

    def _add(self, place: tuple[str, int], sums: Float[Tensor, "3 n_heads bins"]) -> None:
        self.sums[place] = self.sums.get(place, torch.zeros(())) + sums

    def arrays(self) -> dict[str, np.ndarray]:
        """Mean and standard deviation (ddof 0) of each quantity, and how many tokens there were.

        Returns:
            ``NAME.mean`` and ``NAME.std``, float64 ``[layers, heads, bins]``, layers ascending, and
            ``NAME.n``, int64 ``[bins]``.
        """
        arrays: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(name for name, _ in self.sums):
            layers = sorted(layer for other, layer in self.sums if other == name)
            by_layer = torch.stack([self.sums[name, layer] for layer in layers], dim=1)
            n, total, squares = by_layer
            mean = total / n
            variance = (squares / n - mean.square()).clamp(min=0)
            arrays[f"{name}.mean"] = mean.numpy()
            arrays[f"{name}.std"] = variance.sqrt().numpy()
            arrays[f"{name}.n"] = n[0, 0].long().numpy()
        return arrays
