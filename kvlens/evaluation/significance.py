"""Significance: bootstrap of a metric over the items it is made of, paired p-values, Holm's adjustment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000
PAIR_DRAWS = 1000


def bootstrap(
    items: Sequence[np.ndarray], metric: str, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Main scores of resampled items ``[draws]``: within each split and subset, whose mean it is.

    items: ``[k, n]`` each. Seeded by the place alone, so that methods on the same items are drawn alike (paired).
    """
    total = np.zeros(draws)
    for place, x in enumerate(items):
        rng, n = np.random.default_rng([seed, place]), x.shape[1]
        step = max(1, 2_000_000 // n)
        for at in range(0, draws, step):
            chosen = rng.integers(n, size=(min(step, draws - at), n))
            counts = np.stack([np.bincount(row, minlength=n) for row in chosen])
            total[at : at + step] += statistic(x, counts, metric)
    return total / len(items)


def statistic(x: np.ndarray, counts: np.ndarray, metric: str) -> np.ndarray:
    """A metric on samples in which item i occurs ``counts[s, i]`` times: ``[samples]``.

    x: ``[k, n]``. cosine_spearman: of its rows 0 and 1, ties at their mean rank. ``*_ap``: the largest average
    precision of the labels in row 0 by the scores in the others. Any other: the mean of row 0. NaN without variance.
    """
    n = counts.sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        if metric == "cosine_spearman":
            a, b = (_ranks(row, counts) - (n + 1) / 2 for row in x)
            return (counts * a * b).sum(1) / np.sqrt(
                (counts * a * a).sum(1) * (counts * b * b).sum(1)
            )
        if metric.endswith("_ap"):
            return np.max([_average_precision(x[0], row, counts) for row in x[1:]], axis=0)
    return (counts * x[0]).sum(1) / n[:, 0]


def draws(n: int, seed: int = 0) -> np.ndarray:
    """How often each of `n` pairs is in each of 1,000 bootstrap draws, float64 [1000, n]: always the same draws, so
    that differences are paired."""
    rows = np.random.default_rng(seed).integers(0, n, size=(PAIR_DRAWS, n))
    return np.stack([np.bincount(row, minlength=n) for row in rows]).astype(np.float64)


def spearman(cosines: np.ndarray, human: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman x 100, float64 [sets, draws], of each set's cosines [sets, n] and the human scores [n], every pair
    taken as often as `counts` [draws, n] says."""
    return 100 * np.stack(
        [statistic(np.stack([one, human]), counts, "cosine_spearman") for one in cosines]
    )


def _by_value(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of weights per distinct value of x, ascending, and the value's number of each item."""
    _, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    return np.add.reduceat(
        weights[:, order], np.flatnonzero(np.diff(group[order], prepend=-1)), axis=1
    ), group


def _ranks(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    sums, group = _by_value(x, counts)
    return (sums.cumsum(1) - (sums - 1) / 2)[:, group]


def _average_precision(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    every, _ = _by_value(-scores, counts)
    hits, _ = _by_value(-scores, counts * labels)
    return (hits * hits.cumsum(1) / np.maximum(every.cumsum(1), 1)).sum(1) / hits.sum(1)


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of no difference, from bootstrap draws of it: twice the smaller share on one side of 0."""
    differences = differences[np.isfinite(differences)]
    fewer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, 2 * (1 + int(fewer)) / (1 + len(differences)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for how many there are (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(
        [min(1.0, (len(p) - rank) * p[i]) for rank, i in enumerate(order)]
    )
    return [float(raised[list(order).index(i)]) for i in range(len(p))]
