"""Pair distances: the exact distances of many pairs of points.

Differences are taken and their squares added in float64, coordinate by coordinate, as scipy does:
so however many points there are, and whatever holds them, the bits are the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Int

from kvlens.dimension.cloud import Cloud, blocks

GROUPS = 512  # groups of pairs that a thread takes at a time
COMPILED = 2**27  # so many coordinates are worth half a second of compiling


def pair_distances(
    cloud: Cloud, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """The distances of pairs of points; those that come twice, in either order, are taken once."""
    pairs = np.minimum(first, second) * cloud.n + np.maximum(first, second)
    distinct, which = np.unique(pairs, return_inverse=True)
    one, other = np.divmod(distinct, cloud.n)
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    stops = np.append(starts[1:], len(one))
    distances = np.empty(len(one))
    measure = _measure_by_rows if len(one) * cloud.d < COMPILED else _measure_compiled
    if not _is_plain(cloud):
        measure = _measure_by_rows

    def measure_groups(groups: slice) -> None:
        pairs = slice(starts[groups][0], stops[groups][-1])
        measure(cloud, one[pairs], other[pairs], distances[pairs])

    parts = list(blocks(len(starts), GROUPS))
    with ThreadPoolExecutor(_threads() if len(parts) > 1 else 1) as pool:
        list(pool.map(measure_groups, parts))
    return distances[which]


def _is_plain(cloud: Cloud) -> bool:
    points = cloud.points
    return isinstance(points, np.ndarray) and points.dtype in (np.float32, np.float64)


def _measure_by_rows(
    cloud: Cloud,
    one: Int[np.ndarray, " p"],
    other: Int[np.ndarray, " p"],
    distances: Float[np.ndarray, " p"],
) -> None:
    """Fill in the distances of pairs, those of one point beside each other."""
    from scipy.spatial.distance import cdist

    starts = np.flatnonzero(np.diff(one, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(one)], strict=True):
        point = cloud.exact(one[start : start + 1])
        distances[start:stop] = cdist(point, cloud.exact(other[start:stop]))[0]


def _measure_compiled(
    cloud: Cloud,
    one: Int[np.ndarray, " p"],
    other: Int[np.ndarray, " p"],
    distances: Float[np.ndarray, " p"],
) -> None:
    """As `_measure_by_rows`, without copies of the points."""
    _kernel()(cloud.points, cloud.rows[one], cloud.rows[other], distances)


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compiled by numba, which scikit-dimension needs anyway."""
    import numba

    def measure(points, one, other, distances):
        for pair in range(len(one)):
            x = points[one[pair]]
            y = points[other[pair]]
            total = 0.0
            for i in range(len(x)):
                difference = np.float64(x[i]) - np.float64(y[i])
                total += difference * difference
            distances[pair] = np.sqrt(total)

    # Whoever checks types at run time wraps functions.
    return numba.njit(nogil=True)(inspect.unwrap(measure))


def _threads() -> int:
    """As many as products of matrices take."""
    from threadpoolctl import threadpool_info

    return max((each["num_threads"] for each in threadpool_info()), default=1)
