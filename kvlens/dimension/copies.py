"""Copies: the distinct ones of points, which alone have an ID, and their neighbours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kvlens.dimension.cloud import Cloud, Rows, blocks, is_narrow
from kvlens.dimension.neighbours import Neighbours, neighbours_in
from kvlens.dimension.profile import NoEstimate
from kvlens.dimension.search import Search, in_float32

MIN_POINTS = 50  # distinct points; below, the estimators and their errors are noise
NEIGHBOURS = 64  # the widest scale of GRIDE

# Two points nearer than NEAR times the distance to their 10th real neighbour are one point.
# Measured on the final-token states of SmolLM2-135M: batch noise stays below 6e-5 of it, different
# texts lie above 0.1.
NEAR = 1e-3
NEAR_RANK = 10

# Nor can float32 arithmetic tell apart points nearer than this many rounding steps of their length.
ROUNDING_STEPS = 4


@dataclass(frozen=True)
class Distinct:
    """The points that are left when copies are dropped.

    Attributes:
        cloud: they; ``cloud.rows`` says which of the given points.
        neighbours: up to `NEIGHBOURS` of each.
    """

    cloud: Cloud
    neighbours: Neighbours

    @property
    def rows(self) -> Int[np.ndarray, " n"]:
        """Which of the given points they are, ascending."""
        return self.cloud.rows


def distinct_points(points: Rows, layer: int, search: Search = in_float32) -> Distinct:
    """The points that are left when copies are dropped, with their neighbours.

    Each connected group of copies, exact or near ones, keeps its first member.

    Args:
        points: finite numbers of any real dtype ``[n, d]``.
        layer: named in the refusal.
        search: as of `neighbours_in`.

    Returns:
        What is left, in the order of `points`.

    Raises:
        NoEstimate: when fewer than `MIN_POINTS` are left.
    """
    cloud = Cloud.of(points, _first_of_equal_rows(points))
    rounding = ROUNDING_STEPS * _rounding_step(points.dtype) * cloud.lengths
    while cloud.n >= MIN_POINTS:
        neighbours = neighbours_in(cloud, min(NEIGHBOURS, cloud.n - 1), search=search)
        kept = _first_of_copies(neighbours, rounding)
        if len(kept) == cloud.n:
            return Distinct(cloud, neighbours)
        cloud = cloud.part(kept)
        rounding = rounding[kept]
    raise NoEstimate(
        f"layer {layer}: {cloud.n} of {len(points)} points are distinct, "
        f"at least {MIN_POINTS} are needed: give more, and different, texts"
    )


def _rounding_step(dtype: np.dtype) -> float:
    """Machine epsilon of what the points were computed in: float32, unless they are wider."""
    return float(np.finfo(np.float32 if is_narrow(dtype) else np.float64).eps)


def _first_of_equal_rows(points: Rows) -> Int[np.ndarray, " kept"]:
    seen: dict[bytes, int] = {}
    for block in blocks(len(points)):
        for i, row in enumerate(np.asarray(points[block]), block.start):
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
