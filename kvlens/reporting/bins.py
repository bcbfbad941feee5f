"""Bins: a long text's tokens in so many parts that its attention fits into a page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

MOST_BINS = 64  # as many as a map shows with readable labels
PACKED_BYTES = 2 * 4 / 3  # of one weight: 16 bits in base64


@dataclass(frozen=True)
class Bins:
    """Consecutive tokens together.

    Attributes:
        edges: bin i holds the tokens ``edges[i]`` to ``edges[i + 1] - 1``.
    """

    edges: Int[np.ndarray, " n_bins_plus_1"]

    @classmethod
    def of(cls, n_tokens: int, n_bins: int) -> Bins:
        """So many bins, as even as whole tokens allow."""
        edges = np.linspace(0, n_tokens, n_bins + 1)
        return cls(edges.round().astype(int))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First token of each bin, and the token after its last."""
        return list(pairwise(self.edges.tolist()))

    @property
    def single(self) -> bool:
        """Whether each bin is one token."""
        n_tokens = self.edges[-1]
        return len(self.spans) == n_tokens

    def over_queries(
        self, weights: Float[np.ndarray, "layers heads queries keys"]
    ) -> Float[np.ndarray, "layers heads bins keys"]:
        """The mean over the queries of each bin."""
        sums = np.add.reduceat(weights, self.edges[:-1], axis=2)
        sizes = np.diff(self.edges)
        return sums / sizes[:, None]

    def square(
        self, weights: Float[np.ndarray, "layers heads queries keys"]
    ) -> Float[np.ndarray, "layers heads cells"]:
        """Mean over queries, sum over keys; the lower triangle row by row."""
        means = self.over_queries(weights)
        square = np.add.reduceat(means, self.edges[:-1], axis=3)
        rows, columns = np.tril_indices(len(self.spans))
        return square[:, :, rows, columns]


def fitting_bins(n_tokens: int, n_maps: int, budget: int) -> int:
    """How many bins of a text fit; at most one a token, and `MOST_BINS`; 0 when not even one.

    Args:
        n_tokens: of the text.
        n_maps: layers times heads.
        budget: how many bytes the packed weights may take.
    """
    most = min(n_tokens, MOST_BINS)
    counts = (n for n in range(most, 0, -1) if n_maps * _map_bytes(n, n_tokens) <= budget)
    return next(counts, 0)


def _map_bytes(n_bins: int, n_tokens: int) -> float:
    """Bytes of the weights of one layer and head, packed.

    Squares before and after (propagated), two columns; and the local square after, unless bins are
    single tokens: then the script computes it.
    """
    n_squares = 2 if n_bins == n_tokens else 3
    n_cells = n_bins * (n_bins + 1) / 2
    n_weights = n_squares * n_cells + 2 * n_bins
    return n_weights * PACKED_BYTES
