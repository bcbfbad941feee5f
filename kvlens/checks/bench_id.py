"""Bench of the intrinsic dimension: the estimate of one layer against one product of its points."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_info

from kvlens.checks.bench import interleaved, ratios
from kvlens.dimension.estimation import estimate_points
from kvlens.store.provenance import versions

DIMENSION = 12  # about that of hidden states
NOISE = 1e-3  # of every coordinate, so that no coordinate can be left out


def intrinsic_dimension(n: int, width: int, repeats: int) -> list[dict[str, Any]]:
    """Time `estimate_points` on float32 points against X X^T, in float32 and in float64.

    NumPy takes X X^T for what it is and multiplies every pair of points once.

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
        "float32": lambda: points @ points.T,
        "float64": lambda: wide @ wide.T,
    }
    seconds = interleaved(actions, repeats)
    return [
        {
            "measured": f"ID of one layer / X X^T in {dtype}",
            "points": n,
            "width": width,
            "rounds": repeats,
            "threads": max(each["num_threads"] for each in threadpool_info()),
            **ratios(seconds, "ID", dtype),
            **{name: versions()[name] for name in ("numpy", "scikit-dimension", "kvlens")},
        }
        for dtype in ("float32", "float64")
    ]


def made_points(n: int, width: int) -> Float[np.ndarray, "n width"]:
    """Normally spread points of dimension 12 in `width` coordinates, with noise; float32."""
    rng = np.random.default_rng(0)
    flat = rng.standard_normal((n, DIMENSION)) @ rng.standard_normal((DIMENSION, width))
    return (flat + NOISE * rng.standard_normal((n, width))).astype(np.float32)
