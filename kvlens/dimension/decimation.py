"""Decimation: the ID of ever fewer of the texts, from the neighbours of all.

Estimates fall as points grow few, the more the higher the dimension; so a profile is to be trusted
only as far as the order of its layers does not hang on how many texts there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from kvlens.dimension.copies import Distinct
from kvlens.dimension.draws import Draws
from kvlens.dimension.halves import Parts

FEWEST = 100  # texts of a part; of fewer, an ID says little
MOST_PARTS = 4  # of one size, none with a text of another


class Decimation:
    """The texts cut in two, in four and so on, and the parts' ID at one layer after another."""

    def __init__(self, n_texts: int, seed: int):
        """Cut them at random.

        Args:
            n_texts: how many there are.
            seed: of the cuts.
        """
        place = np.random.default_rng(seed).permutation(n_texts)
        self._levels: list[Parts] = []
        cuts = 2
        while n_texts // cuts >= FEWEST:
            starts = np.arange(min(cuts, MOST_PARTS))[:, None] * (n_texts // cuts)
            inside = (place >= starts) & (place < starts + n_texts // cuts)
            self._levels.append(Parts(inside, seed))
            cuts *= 2

    def measure(
        self,
        distinct: Distinct,
        text_of_point: Int[np.ndarray, " n_points"],
        estimators: Sequence[str],
    ) -> None:
        """Measure the next layer, see `Parts.measure`."""
        for level in self._levels:
            level.measure(distinct, text_of_point, estimators)

    def draws(self) -> tuple[Draws, ...] | None:
        """The parts of each size, largest first; None where there are none."""
        levels = tuple(filter(None, (level.draws() for level in self._levels)))
        return levels or None
