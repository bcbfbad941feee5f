"""Neighbours: exact nearest neighbours of distinct points."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from kvlens.dimension.profile import NoEstimate

if TYPE_CHECKING:
    pass


MIN_POINTS = 50  # distinct points; below, the estimators and their errors are noise


NEIGHBOURS = 64  # the widest scale of GRIDE


# Two points nearer than this share of the distance to their 10th real neighbour are one point. Measured on the
# final-token states of SmolLM2-135M: batch noise stays below 6e-5 of it, different texts lie above 0.1.
NEAR, NEAR_RANK = 1e-3, 10


# Nor can float32 arithmetic tell apart points nearer than this many rounding steps of their length.
ROUNDING_STEPS = 4


def _distinct_neighbours(X: np.ndarray, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of the points that are left when each connected group of copies keeps its first member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = len(X)
    step = np.finfo(np.float64 if X.dtype.kind != "f" or X.itemsize > 4 else np.float32).eps
    seen: dict[bytes, int] = {}
    for i, row in enumerate(X):
        seen.setdefault(hashlib.sha256(row.tobytes()).digest(), i)
    first = np.array(list(seen.values()))
    X = X.astype(np.float64)
    rounding = ROUNDING_STEPS * step * np.sqrt(np.einsum("nd,nd->n", X, X))
    X -= X.mean(axis=0)  # else a common offset makes the search imprecise, and `_neighbours` slow
    while len(first) >= MIN_POINTS:
        if len(first) < len(X):
            X, rounding = X[first], rounding[first]
        distances, indices = _neighbours(X, min(NEIGHBOURS, len(X) - 1))
        # Row by row the last gap: up to there neighbours are copies, however many there are.
        gap = distances[:, :-NEAR_RANK] <= NEAR * distances[:, NEAR_RANK:]
        radius = np.where(gap, distances[:, :-NEAR_RANK], 0.0).max(axis=1)
        point, rank = np.nonzero(distances <= np.maximum(radius, rounding)[:, None])
        if not len(point):
            return distances, indices
        copies = coo_array(
            (np.ones(len(point)), (point, indices[point, rank])), shape=(len(X), len(X))
        )
        first = np.sort(
            np.unique(connected_components(copies, directed=False)[1], return_index=True)[1]
        )
    raise NoEstimate(
        f"layer {layer}: {len(first)} of {total} points are distinct, at least {MIN_POINTS} are needed: "
        "give more, and different, texts"
    )


def _neighbours(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices ``[n, k]`` of each point's nearest others, nearest first, exact in float64.

    The search (|x|^2 + |y|^2 - 2xy) errs where some points lie far from the origin. So the distances of its
    candidates are taken again from differences, and rows whose last candidate is not safely beyond the k-th are
    compared with all points. Ties go by index, so that neither threads nor block sizes change the result.
    """
    from scipy.spatial.distance import cdist
    from sklearn.neighbors import NearestNeighbors

    n, wide = len(X), min(k + 8, len(X) - 1)
    rough, candidates = NearestNeighbors(n_neighbors=wide, algorithm="brute").fit(X).kneighbors()
    squares = np.einsum("nd,nd->n", X, X)
    error = 4 * X.shape[1] * np.finfo(np.float64).eps * (squares + squares.max())
    distances, indices = np.empty((n, k)), np.empty((n, k), dtype=np.int64)
    for i, others in enumerate(candidates):
        row = cdist(X[i : i + 1], X[others])[0]
        order = np.lexsort((others, row))[:k]
        if wide < n - 1 and rough[i, -1] ** 2 - row[order[-1]] ** 2 <= error[i]:
            others, row = np.arange(n), cdist(X[i : i + 1], X)[0]
            row[i] = np.inf
            order = np.lexsort((others, row))[:k]
        distances[i], indices[i] = row[order], others[order]
    return distances, indices
