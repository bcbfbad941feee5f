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

PAIRS = 2**15  # that a thread takes at a time
COMPILED = 2**27  # so many coordinates are worth half a second of compiling


def pair_distances(
    cloud: Cloud, first: Int[np.ndarray, " p"], second: Int[np.ndarray, " p"], in_all: int = 0
) -> Float[np.ndarray, " p"]:
    """The distances of pairs of points; fastest where those of one first point lie together.

    Args:
        cloud: the points.
        first: of each pair.
        second: of each pair.
        in_all: about how many pairs there are, for whoever comes with some at a time.
    """
    distances = np.empty(len(first))
    is_worth = max(len(first), in_all) * cloud.d >= COMPILED
    measure = _measure_compiled if is_worth and _is_plain(cloud) else _measure_by_rows

    def measure_some(pairs: slice) -> None:
        measure(cloud, first[pairs], second[pairs], distances[pairs])

    parts = list(blocks(len(first), PAIRS))
    with ThreadPoolExecutor(_threads() if len(parts) > 1 else 1) as pool:
        list(pool.map(measure_some, parts))
    return distances


def _is_plain(cloud: Cloud) -> bool:
    points = cloud.points
    return isinstance(points, np.ndarray) and points.dtype in (np.float32, np.float64)


def _measure_by_rows(
    cloud: Cloud,
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
    distances: Float[np.ndarray, " p"],
) -> None:
    """Fill in the distances of pairs, those of one first point beside each other at once."""
    from scipy.spatial.distance import cdist

    starts = np.flatnonzero(np.diff(first, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(first)], strict=True):
        point = cloud.exact(first[start : start + 1])
        ascending = start + np.argsort(second[start:stop])
        distances[ascending] = cdist(point, cloud.exact(second[ascending]))[0]


def _measure_compiled(
    cloud: Cloud,
    first: Int[np.ndarray, " p"],
    second: Int[np.ndarray, " p"],
    distances: Float[np.ndarray, " p"],
) -> None:
    """As `_measure_by_rows`, without copies of the points."""
    _kernel()(cloud.points, cloud.rows[first], cloud.rows[second], distances)


@functools.cache
def _kernel() -> Callable[..., None]:
    """Compiled by numba, which scikit-dimension needs anyway."""
    import numba

    # Four neighbours of a point at once: a sum by itself would wait for each of its additions.
    def measure(points, first, second, distances):
        start = 0
        while start < len(first):
            last = start
            while last < min(start + 3, len(first) - 1) and first[last + 1] == first[start]:
                last += 1
            next_ones = min(start + 1, last), min(start + 2, last)
            point = points[first[start]]
            a, d = points[second[start]], points[second[last]]
            b, c = points[second[next_ones[0]]], points[second[next_ones[1]]]
            to_a = to_b = to_c = to_d = 0.0
            for i in range(len(point)):
                x = np.float64(point[i])
                to_a += (x - np.float64(a[i])) ** 2
                to_b += (x - np.float64(b[i])) ** 2
                to_c += (x - np.float64(c[i])) ** 2
                to_d += (x - np.float64(d[i])) ** 2
            distances[start], distances[last] = np.sqrt(to_a), np.sqrt(to_d)
            distances[next_ones[0]], distances[next_ones[1]] = np.sqrt(to_b), np.sqrt(to_c)
            start = last + 1

    # Whoever checks types at run time wraps functions.
    return numba.njit(nogil=True)(inspect.unwrap(measure))


def _threads() -> int:
    """As many as products of matrices take."""
    from threadpoolctl import threadpool_info

    return max((each["num_threads"] for each in threadpool_info()), default=1)
