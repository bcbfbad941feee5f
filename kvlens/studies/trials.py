"""Trials: texts whose embeddings can be judged, by human scores or without any label.

A trial says which texts are to be embedded and what their vectors are worth, item by item, so that
embeddings of the same trial are compared on the same resampled items. It knows no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from kvlens.evaluation.significance import Counts, draws

Kind = Literal["pairs", "passages"]

PARTS = 5  # of the items: one to look coarsely, two to look finely, two to prove
FEWEST = 40  # items of all parts together: 8 is the least of one

Vectors = Float[np.ndarray, "n_texts d"]
Items = Float[np.ndarray, "sets n"]


class Space(NamedTuple):
    """How a trial's vectors lie (Wang and Isola 2020): lower is better, and only beside the other.

    Attributes:
        alignment: of the two halves of a passage.
        uniformity: of the passages.
    """

    alignment: float
    uniformity: float


class Trial(ABC):
    """What vectors are judged by.

    Attributes:
        kind: what its items are.
    """

    kind: Kind

    @property
    @abstractmethod
    def texts(self) -> tuple[str, ...]:
        """What is embedded; all different."""

    @property
    @abstractmethod
    def n(self) -> int:
        """How many items are resampled."""

    @abstractmethod
    def some(self, n: int) -> Trial:
        """About `n` of the items, spread over all; itself where it has no more."""

    @abstractmethod
    def items(self, vectors: Vectors) -> Float[np.ndarray, " n"]:
        """What each item says of the vectors of `texts`, which need not be of unit length."""

    @abstractmethod
    def scores(self, items: Items, counts: Counts) -> Float[np.ndarray, "sets draws"]:
        """The score of each set of vectors, from its items: each so often in each draw."""

    def space(self, vectors: Vectors) -> Space | None:
        """How the vectors lie, where the trial has texts for that."""
        return None

    def whole(self, items: Items) -> Float[np.ndarray, " sets"]:
        """The score of each set on all items, 0 to 100 (a correlation's from -100 on)."""
        return self.scores(items, np.ones((1, self.n)))[:, 0]

    def resampled(self, items: Items) -> Float[np.ndarray, "sets draws"]:
        """The score of each set on 1,000 bootstrap draws, the same ones for all sets."""
        return self.scores(items, draws(self.n))


def spread(n: int, wanted: int) -> list[int]:
    """So many of `n` places as are wanted, or all, spread evenly."""
    taken = min(n, wanted)
    return [place * n // taken for place in range(taken)]


def unit_length(vectors: Vectors) -> Vectors:
    """Vectors of length 1, in float64; zeros stay."""
    x = vectors.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths == 0, 1, lengths)
