"""Bench of the intrinsic dimension: the estimate of one layer against one product of its points."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_info

from kvlens.checks.bench import interleaved, ratios
from kvlens.dimension.cloud import blocks
from kvlens.dimension.estimation import estimate_points
from kvlens.store.provenance import versions

DIMENSION = 12  # about that of hidden states
AT_ONCE = 20_000  # points: of more, X X^T is larger than memory
ROWS = 512  # of such a product at a time
NOISE = 1e-3  # of every coordinate, so that no coordinate can be left out


def intrinsic_dimension(n: int, width: int, repeats: int) -> list[dict[str, Any]]:
    """Time `estimate_points` on float32 points against X X^T, in float32 and in float64.

    Args:
        n: points.
        width: their coordinates.
        repeats: rounds.

    Returns:
        What was measured, and the ratios, a row a product.
    """
    points = made_points(n, width)
    wide = points.astype(np.float64)
    actions = {
        "ID": lambda: estimate_points(points),
        "float32": lambda: multiply(points),
        "float64": lambda: multiply(wide),
    }
    seconds = interleaved(actions, repeats)
    of_id = statistics.median(each.cpu for each in seconds["ID"])
    return [
        {
            "measured": f"ID of one layer / X X^T in {dtype}",
            "points": n,
            "width": width,
            "rounds": repeats,
            "threads": max(each["num_threads"] for each in threadpool_info()),
            **ratios(seconds, "ID", dtype),
            "CPU seconds of the ID": round(of_id, 1),
            **{name: versions()[name] for name in ("numpy", "scikit-dimension", "kvlens")},
        }
        for dtype in ("float32", "float64")
    ]


def multiply(points: Float[np.ndarray, "n width"]) -> None:
    """X X^T, every pair of points once: as NumPy does it at once, many points in blocks of rows."""
    n = len(points)
    if n <= AT_ONCE:
        points @ points.T
        return
    for rows in blocks(n, ROWS):
        points[rows] @ points[rows.start :].T


def made_points(n: int, width: int) -> Float[np.ndarray, "n width"]:
    """Normally spread points of dimension 12 in `width` coordinates, with noise; float32."""
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((n, DIMENSION)) @ rng.standard_normal((DIMENSION, width))
    return (flat + NOISE * rng.standard_normal((n, width))).astype(np.float32)
