"""Halves: the ID of random halves of the texts, from the neighbours of the whole.

Nothing is recorded again, and hardly a distance is measured again: of the 64 nearest neighbours of
a point, some 32 are in its half, and the estimators look at 20 at most. Copies of points stay
dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from kvlens.dimension.draws import DECIMALS, Draws
from kvlens.dimension.estimators import ESTIMATORS
from kvlens.dimension.neighbours import MIN_POINTS, Distinct

DRAWS = 50  # a share near a half then has a standard error of 0.07
SMALLEST_HALF = MIN_POINTS // 2  # points


class Halves:
    """Random halves of texts, and their ID at one layer after the other.

    Attributes:
        inside: which texts each half has.
        seed: of the halves.
    """

    def __init__(self, n_texts: int, draws: int, seed: int):
        """Draw them.

        Args:
            n_texts: how many there are; a half has n_texts // 2.
            draws: how many halves.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        ranks = rng.random((draws, n_texts)).argsort(axis=1)
        self.inside: Bool[np.ndarray, "draws n_texts"] = ranks < n_texts // 2
        self.seed = seed
        self._layers: list[dict[str, Float[np.ndarray, " draws"]]] = []

    def measure(
        self,
        distinct: Distinct,
        text_of_point: Int[np.ndarray, " n_points"],
        estimators: Sequence[str],
    ) -> None:
        """Measure the next layer.

        Args:
            distinct: its points.
            text_of_point: the text of each point, copies included.
            estimators: the same at every layer.
        """
        inside = self.inside[:, text_of_point[distinct.rows]]
        rows = [ids_of_half(distinct, half, estimators) for half in inside]
        values = np.array(rows).reshape(len(rows), len(estimators))
        self._layers.append(dict(zip(estimators, values.T, strict=True)))

    def draws(self) -> Draws | None:
        """The halves that have an ID by every estimator at every layer; None where none has."""
        by_estimator = {
            name: np.stack([layer[name] for layer in self._layers], axis=1)
            for name in self._layers[0]
        }
        sound = np.all([_is_id(ids).all(axis=1) for ids in by_estimator.values()], axis=0)
        if not sound.any():
            return None
        return Draws(
            n=self.inside.shape[1] // 2,
            seed=self.seed,
            values={name: _lines(ids[sound]) for name, ids in by_estimator.items()},
        )


def ids_of_half(
    distinct: Distinct, half: Bool[np.ndarray, " n"], estimators: Sequence[str]
) -> list[float]:
    """The ID of some of the points by each estimator, as from these points alone.

    Args:
        distinct: the points.
        half: which of them.
        estimators: their names.

    Returns:
        The IDs; NaN for fewer than `SMALLEST_HALF` points.
    """
    if half.sum() < SMALLEST_HALF:
        return [np.nan] * len(estimators)
    reach = max(ESTIMATORS[name].reach for name in estimators)
    distances = distances_inside(distinct, half, reach)
    return [ESTIMATORS[name].value(distances) for name in estimators]


def distances_inside(
    distinct: Distinct, half: Bool[np.ndarray, " n"], k: int
) -> Float[np.ndarray, "m k"]:
    """The distances of each point of a half to its k nearest others of the half, nearest first."""
    chosen = np.flatnonzero(half)
    neighbours = distinct.neighbours
    is_inside = half[neighbours.indices[chosen]]
    rank = is_inside.cumsum(axis=1)
    enough = rank[:, -1] >= k
    nearest = is_inside & (rank <= k)
    distances = np.empty((len(chosen), k))
    distances[enough] = neighbours.distances[chosen[enough]][nearest[enough]].reshape(-1, k)
    for i in np.flatnonzero(~enough):
        distances[i] = _among_all(distinct.points, int(chosen[i]), chosen, k)
    return distances


def _among_all(
    points: NDArray, point: int, others: Int[np.ndarray, " m"], k: int
) -> Float[np.ndarray, " k"]:
    """The k smallest distances of a point to others, in float64; itself among them is none."""
    from scipy.spatial.distance import cdist

    to_others = cdist(points[[point]], points[others[others != point]])[0]
    return np.sort(to_others)[:k]


def _is_id(ids: Float[np.ndarray, "draws n_layers"]) -> Bool[np.ndarray, "draws n_layers"]:
    return np.isfinite(ids) & (ids > 0)


def _lines(ids: Float[np.ndarray, "draws n_layers"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in ids.round(DECIMALS).tolist())
