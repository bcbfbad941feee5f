"""Neighbours: exact nearest neighbours of distinct points."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from kvlens.dimension.profile import NoEstimate

MIN_POINTS = 50  # distinct points; below, the estimators and their errors are noise
NEIGHBOURS = 64  # the widest scale of GRIDE

# Two points nearer than NEAR times the distance to their 10th real neighbour are one point.
# Measured on the final-token states of SmolLM2-135M: batch noise stays below 6e-5 of it, different
# texts lie above 0.1.
NEAR = 1e-3
NEAR_RANK = 10

# Nor can float32 arithmetic tell apart points nearer than this many rounding steps of their length.
ROUNDING_STEPS = 4

# The search asks for so many candidates more than are needed, so that few rows need all points.
SPARE = 8


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of n points, nearest first; a point is none of its own.

    Attributes:
        distances: float64, the distance of each neighbour.
        indices: int64, which point it is.
    """

    distances: Float[np.ndarray, "n k"]
    indices: Int[np.ndarray, "n k"]

    @property
    def n(self) -> int:
        """How many points there are."""
        return len(self.distances)


@dataclass(frozen=True)
class Distinct:
    """The points that are left when copies are dropped.

    Attributes:
        rows: which of the given points they are, ascending.
        points: they, float64, with the mean of all given ones at the origin.
        neighbours: up to `NEIGHBOURS` of each.
    """

    rows: Int[np.ndarray, " n"]
    points: Float[np.ndarray, "n d"]
    neighbours: Neighbours


def distinct_points(points: NDArray, layer: int) -> Distinct:
    """The points that are left when copies are dropped, with their neighbours.

    Each connected group of copies, exact or near ones, keeps its first member.

    Args:
        points: finite numbers of any real dtype ``[n, d]``.
        layer: named in the refusal.

    Returns:
        What is left, in the order of `points`.

    Raises:
        NoEstimate: when fewer than `MIN_POINTS` are left.
    """
    total = len(points)
    kept = _first_of_equal_rows(points)
    rounding_step = _rounding_step(points.dtype)
    points = points.astype(np.float64)
    rounding = ROUNDING_STEPS * rounding_step * np.sqrt(np.einsum("nd,nd->n", points, points))
    # Else a common offset makes the search imprecise, and its refinement slow.
    points -= points.mean(axis=0)
    rows = np.arange(total)
    while len(kept) >= MIN_POINTS:
        if len(kept) < len(points):
            rows = rows[kept]
            points = points[kept]
            rounding = rounding[kept]
        neighbours = nearest_neighbours(points, min(NEIGHBOURS, len(points) - 1))
        kept = _first_of_copies(neighbours, rounding)
        if len(kept) == len(points):
            return Distinct(rows, points, neighbours)
    raise NoEstimate(
        f"layer {layer}: {len(kept)} of {total} points are distinct, "
        f"at least {MIN_POINTS} are needed: give more, and different, texts"
    )


def _rounding_step(dtype: np.dtype) -> float:
    """Machine epsilon of what the points were computed in: float32, unless they are wider."""
    narrow = dtype.kind == "f" and dtype.itemsize <= 4
    return float(np.finfo(np.float32 if narrow else np.float64).eps)


def _first_of_equal_rows(points: NDArray) -> Int[np.ndarray, " kept"]:
    seen: dict[bytes, int] = {}
    for i, row in enumerate(points):
        seen.setdefault(hashlib.sha256(row.tobytes()).digest(), i)
    return np.array(list(seen.values()))


def _first_of_copies(
    neighbours: Neighbours, rounding: Float[np.ndarray, " n"]
) -> Int[np.ndarray, " kept"]:
    """The first member of each connected group of near copies, ascending."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    distances = neighbours.distances
    nearer = distances[:, :-NEAR_RANK]
    # Row by row the last gap: up to there neighbours are copies, however many there are.
    before_gap = nearer <= NEAR * distances[:, NEAR_RANK:]
    radius = np.where(before_gap, nearer, 0.0).max(axis=1)
    point, rank = np.nonzero(distances <= np.maximum(radius, rounding)[:, None])
    copies = coo_array(
        (np.ones(len(point)), (point, neighbours.indices[point, rank])),
        shape=(neighbours.n, neighbours.n),
    )
    groups = connected_components(copies, directed=False)[1]
    first_members = np.unique(groups, return_index=True)[1]
    return np.sort(first_members)


def nearest_neighbours(points: Float[np.ndarray, "n d"], k: int) -> Neighbours:
    """Each point's k nearest others, exact in float64.

    scikit-learn's search (|x|^2 + |y|^2 - 2xy) errs where points lie far from the origin. So the
    distances of its candidates are taken again from differences, and rows whose last candidate is
    not safely beyond the k-th are compared with all points. Ties go by index, so that neither
    threads nor block sizes change the result.

    Args:
        points: float64, best centred.
        k: below n.

    Returns:
        The neighbours, ``[n, k]``.
    """
    from scipy.spatial.distance import cdist
    from sklearn.neighbors import NearestNeighbors

    n = len(points)
    n_candidates = min(k + SPARE, n - 1)
    search = NearestNeighbors(n_neighbors=n_candidates, algorithm="brute").fit(points)
    rough, candidates = search.kneighbors()
    errors = _search_errors(points)
    distances = np.empty((n, k))
    indices = np.empty((n, k), dtype=np.int64)
    for i, others in enumerate(candidates):
        point = points[i : i + 1]
        nearest = _nearest(cdist(point, points[others])[0], others, k)
        margin = rough[i, -1] ** 2 - nearest[0][-1] ** 2
        if n_candidates < n - 1 and margin <= errors[i]:
            to_all = cdist(point, points)[0]
            to_all[i] = np.inf
            nearest = _nearest(to_all, np.arange(n), k)
        distances[i], indices[i] = nearest
    return Neighbours(distances, indices)


def _search_errors(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Bound of the error of a squared distance in scikit-learn's search, by row."""
    squares = np.einsum("nd,nd->n", points, points)
    return 4 * points.shape[1] * np.finfo(np.float64).eps * (squares + squares.max())


def _nearest(
    distances: Float[np.ndarray, " m"], others: Int[np.ndarray, " m"], k: int
) -> tuple[Float[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """The k smallest distances and whose they are; ties go by index."""
    order = np.lexsort((others, distances))[:k]
    return distances[order], others[order]
