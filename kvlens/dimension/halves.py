"""Halves: the ID of random halves of the texts, from the neighbours of the whole.

Nothing is recorded again, and hardly a distance is measured again: of the 64 nearest neighbours of
a point, some 32 are in its half, and the estimators look at 20 at most. The few points with fewer
inside are searched again. Copies of points stay dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from kvlens.dimension.copies import MIN_POINTS, Distinct
from kvlens.dimension.draws import DECIMALS, Draws
from kvlens.dimension.estimators import ESTIMATORS
from kvlens.dimension.named import named
from kvlens.dimension.neighbours import neighbours_in
from kvlens.dimension.profile import NoEstimate

DRAWS = 50  # a share near a half then has a standard error of 0.07
SMALLEST_HALF = MIN_POINTS // 2  # points


class Parts:
    """Parts of the texts, all of one size, and their ID at one layer after the other.

    Attributes:
        inside: which texts each part has.
        seed: of the parts.
    """

    def __init__(self, inside: Bool[np.ndarray, "parts n_texts"], seed: int):
        """Take these parts, drawn with this seed."""
        self.inside = inside
        self.seed = seed
        self._layers: list[dict[str, Float[np.ndarray, " parts"]]] = []

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
        """The parts that have an ID by every estimator at every layer; None where none has."""
        by_estimator = {
            name: np.stack([layer[name] for layer in self._layers], axis=1)
            for name in self._layers[0]
        }
        sound = np.all([_is_id(ids).all(axis=1) for ids in by_estimator.values()], axis=0)
        if not sound.any():
            return None
        return Draws(
            n=int(self.inside[0].sum()),
            seed=self.seed,
            values={name: _lines(ids[sound]) for name, ids in by_estimator.items()},
        )


class Halves(Parts):
    """Random halves of the texts."""

    def __init__(self, n_texts: int, draws: int, seed: int):
        """Draw them.

        Args:
            n_texts: how many there are; a half has n_texts // 2.
            draws: how many halves.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        ranks = rng.random((draws, n_texts)).argsort(axis=1)
        super().__init__(ranks < n_texts // 2, seed)


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
    near = [ESTIMATORS[name] for name in estimators if name in ESTIMATORS]
    if near:
        distances = distances_inside(distinct, half, max(each.reach for each in near))
    if len(near) < len(estimators):
        points = distinct.cloud.part(np.flatnonzero(half)).exact(slice(None))
    return [
        ESTIMATORS[name].value(distances) if name in ESTIMATORS else _value(name, points)
        for name in estimators
    ]


def _value(name: str, points: Float[np.ndarray, "n d"]) -> float:
    try:
        return named(name).value(points)
    except NoEstimate:
        return np.nan


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
    others = np.flatnonzero(~enough)
    if len(others):
        distances[others] = neighbours_in(distinct.cloud.part(chosen), k, others).distances
    return distances


def _is_id(ids: Float[np.ndarray, "draws n_layers"]) -> Bool[np.ndarray, "draws n_layers"]:
    return np.isfinite(ids) & (ids > 0)


def _lines(ids: Float[np.ndarray, "draws n_layers"]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in ids.round(DECIMALS).tolist())
