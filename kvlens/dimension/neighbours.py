"""Neighbours: the exact nearest neighbours of points.

1. Search (`search`): the candidates of each point, by float32 products.
2. Refine: their distances from differences, in float64.
3. Prove: the k-th of them is nearer than anything that is no candidate can be. Points without proof
   are searched again by float64 products, and those that still have none are compared with all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from kvlens.dimension.cloud import Cloud, Rows, blocks
from kvlens.dimension.pair_distances import pair_distances
from kvlens.dimension.search import Candidates, Search, candidates, in_float32

# The search asks for so many candidates more than are needed, so that few points have no proof.
SPARE = 8

# So many pairs are measured at a time: candidates, or where points are compared with all.
CANDIDATES = 2**16
PAIRS = 2**22


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


def nearest_neighbours(points: Rows, k: int) -> Neighbours:
    """Each point's k nearest others; see `neighbours_in`.

    Args:
        points: finite numbers ``[n, d]`` of any real dtype.
        k: below n.
    """
    return neighbours_in(Cloud.of(points), k)


def neighbours_in(
    cloud: Cloud,
    k: int,
    of: Int[np.ndarray, " m"] | None = None,
    search: Search = in_float32,
) -> Neighbours:
    """The k nearest others of points in a cloud, exact in float64.

    Ties go by index, so that neither threads nor block sizes change the result. Memory is that of
    the neighbours, and of two blocks of points.

    Args:
        cloud: the points.
        k: below their number.
        of: whose neighbours; None: those of all points.
        search: finds the candidates; any gives the same neighbours.

    Returns:
        The neighbours of these points, ``[m, k]``.
    """
    whose = np.arange(cloud.n) if of is None else of
    m = min(k + SPARE, cloud.n - 1)
    neighbours, proven = _refined(cloud, whose, k, search(cloud, m, of))
    for finer in (_by_float64, _by_all):
        left = np.flatnonzero(~proven)
        if not len(left):
            break
        again, proven[left] = finer(cloud, whose[left], k)
        neighbours.distances[left] = again.distances
        neighbours.indices[left] = again.indices
    return neighbours


def _by_float64(
    cloud: Cloud, of: Int[np.ndarray, " m"], k: int
) -> tuple[Neighbours, Bool[np.ndarray, " m"]]:
    m = min(k + SPARE, cloud.n - 1)
    return _refined(cloud, of, k, candidates(cloud, m, np.float64, of))


def _by_all(
    cloud: Cloud, of: Int[np.ndarray, " m"], k: int
) -> tuple[Neighbours, Bool[np.ndarray, " m"]]:
    """By the distances to all points."""
    from scipy.spatial.distance import cdist

    distances = np.empty((len(of), k))
    indices = np.empty((len(of), k), np.int64)
    for rows in blocks(len(of), max(1, PAIRS // cloud.n)):
        points = cloud.exact(of[rows])
        columns = [cdist(points, cloud.exact(np.arange(c.start, c.stop))) for c in blocks(cloud.n)]
        to_all = np.concatenate(columns, axis=1)
        to_all[np.arange(len(points)), of[rows]] = np.inf
        indices[rows] = np.argsort(to_all, axis=1, kind="stable")[:, :k]
        distances[rows] = np.take_along_axis(to_all, indices[rows], axis=1)
    return Neighbours(distances, indices), np.ones(len(of), bool)


def _refined(
    cloud: Cloud, of: Int[np.ndarray, " m"], k: int, found: Candidates
) -> tuple[Neighbours, Bool[np.ndarray, " m"]]:
    """The k nearest candidates of each point, and whether they are its nearest of all."""
    neighbours = Neighbours(np.empty((len(of), k)), np.empty((len(of), k), np.int64))
    proven = np.empty(len(of), bool)
    for rows in blocks(len(of), max(1, CANDIDATES // found.indices.shape[1])):
        some, proven[rows] = _nearest_candidates(cloud, of[rows], k, found.of(rows), len(of))
        neighbours.distances[rows] = some.distances
        neighbours.indices[rows] = some.indices
    return neighbours, proven


def _nearest_candidates(
    cloud: Cloud, of: Int[np.ndarray, " m"], k: int, found: Candidates, n_in_all: int
) -> tuple[Neighbours, Bool[np.ndarray, " m"]]:
    # No sum of d squares in float64 errs by a larger share.
    error = 4 * cloud.d * np.finfo(np.float64).eps
    limit = np.partition(found.high, k - 1, axis=1)[:, k - 1] * (1 + error)
    near = found.low <= limit[:, None]
    distances = np.full(near.shape, np.inf)
    row, column = np.nonzero(near)
    indices = found.indices[row, column]
    distances[row, column] = pair_distances(cloud, of[row], indices, in_all=k * n_in_all)
    order = np.lexsort((found.indices, distances), axis=1)[:, :k]
    neighbours = Neighbours(
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(found.indices, order, axis=1),
    )
    beyond = found.low.max(axis=1)
    farthest = neighbours.distances[:, -1] ** 2 * (1 + error)
    all_are_candidates = found.low.shape[1] == cloud.n - 1
    return neighbours, np.isfinite(beyond) & (all_are_candidates | (farthest < beyond))
