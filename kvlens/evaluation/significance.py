"""Significance: one bootstrap, of a metric over the items that it is made of.

Resampling is by counts: how often each item is in a draw. A statistic takes the counts as weights,
so that a draw is never spelled out. From draws come intervals and paired p-values, and Holm's
adjustment. Pure functions of numpy: this file knows no task, no model and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

DRAWS = 2000
PAIR_DRAWS = 1000
INTERVAL = (2.5, 97.5)

Counts = Num[np.ndarray, "draws n"]  # how often item i is in each draw
Values = Float[np.ndarray, "n"]  # a number an item
Groups = Int[np.ndarray, "n"]  # which distinct value an item has
Draws = Float[np.ndarray, "draws"]  # a score a draw

# The most counts that `bootstrap` holds at a time: 16 MB.
_COUNTS_AT_A_TIME = 2_000_000


def resample(rng: np.random.Generator, n: int, n_draws: int) -> Int[np.ndarray, "draws n"]:
    """How often each of `n` items is in each of `n_draws` draws of n items with replacement."""
    chosen = rng.integers(n, size=(n_draws, n))
    return np.stack([np.bincount(row, minlength=n) for row in chosen])


def draws(n: int, seed: int = 0) -> Float[np.ndarray, "draws n"]:
    """How often each of `n` pairs is in each of 1,000 bootstrap draws.

    Always the same draws for the same `n` and `seed`, so that differences are paired.
    """
    return resample(np.random.default_rng(seed), n, PAIR_DRAWS).astype(np.float64)


def bootstrap(
    items: Sequence[Float[np.ndarray, "k _"]],
    metric: str,
    n_draws: int = DRAWS,
    seed: int = 0,
) -> Draws:
    """Main scores of resampled items, drawn within each split and subset, whose mean it is.

    Seeded by the place alone, so that methods on the same items are drawn alike (paired).

    Args:
        items: For each split and subset, what `statistic` needs of its items.
        metric: The metric, as for `statistic`.
        n_draws: How many draws.
        seed: Of the draws.

    Returns:
        The score of each draw; NaN where it is undefined.
    """
    total = np.zeros(n_draws)
    for place, x in enumerate(items):
        rng = np.random.default_rng([seed, place])
        n = x.shape[1]
        step = max(1, _COUNTS_AT_A_TIME // n)
        for start in range(0, n_draws, step):
            end = min(start + step, n_draws)
            counts = resample(rng, n, end - start)
            total[start:end] += statistic(x, counts, metric)
    return total / len(items)


def statistic(x: Float[np.ndarray, "k n"], counts: Counts, metric: str) -> Draws:
    """A metric on samples in which item i occurs ``counts[draw, i]`` times.

    Args:
        x: What the metric needs of each item, a row a quantity.
        counts: How often each item is in each sample.
        metric: ``cosine_spearman``: Spearman's correlation of rows 0 and 1, ties at their mean
            rank. ``*_ap``: the largest average precision of the labels in row 0 by the scores in
            the other rows. Any other: the mean of row 0.

    Returns:
        The metric of each sample; NaN without variance or without a positive label.
    """
    with np.errstate(invalid="ignore"):
        if metric == "cosine_spearman":
            return _rank_correlation(x, counts)
        if metric.endswith("_ap"):
            precisions = [_average_precision(x[0], scores, counts) for scores in x[1:]]
            return np.max(precisions, axis=0)
    return (counts * x[0]).sum(1) / counts.sum(1)


def has_rows_of(metric: str, x: Float[np.ndarray, "k n"]) -> bool:
    """Whether `x` has as many rows as `statistic` reads for this metric."""
    if metric == "cosine_spearman":
        return len(x) == 2
    return len(x) >= 2 if metric.endswith("_ap") else len(x) == 1


def spearman(
    cosines: Float[np.ndarray, "sets n"],
    human: Values,
    counts: Counts,
) -> Float[np.ndarray, "sets draws"]:
    """Spearman's correlation x 100 of each set's cosines with the human scores.

    Args:
        cosines: Of each pair, for each set of layers (or whatever is compared).
        human: The human score of each pair.
        counts: How often each pair is in each draw; ones for the plain score.
    """
    pairs = (np.stack([row, human]) for row in cosines)
    return 100 * np.stack([statistic(x, counts, "cosine_spearman") for x in pairs])


def interval(
    samples: Float[np.ndarray, "*sets draws"],
) -> tuple[Float[np.ndarray, "*sets"] | float, Float[np.ndarray, "*sets"] | float]:
    """The 95 % percentile interval of draws: (low, high).

    Draws without a score (NaN) are left out. One number each for one set of draws.
    """
    low, high = np.nanpercentile(samples, INTERVAL, axis=-1)
    return low, high


def p_value(differences: Draws) -> float:
    """Two-sided p of no difference: twice the smaller share of draws on one side of 0.

    Args:
        differences: Bootstrap draws of the difference; NaN says nothing and is left out.
    """
    defined = differences[np.isfinite(differences)]
    fewer = min((defined <= 0).sum(), (defined >= 0).sum())
    return min(1.0, 2 * (1 + int(fewer)) / (1 + len(defined)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for how many there are (Holm 1979), in their order."""
    order = np.argsort(p, kind="stable")
    raised = [min(1.0, (len(p) - rank) * p[i]) for rank, i in enumerate(order)]
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(raised)
    return adjusted.tolist()


def _rank_correlation(x: Float[np.ndarray, "2 n"], counts: Counts) -> Draws:
    # By hand: scipy's spearmanr takes no weights.
    middle = (counts.sum(1, keepdims=True) + 1) / 2
    a, b = (_ranks(row, counts) - middle for row in x)
    covariance = (counts * a * b).sum(1)
    return covariance / np.sqrt((counts * a * a).sum(1) * (counts * b * b).sum(1))


def _average_precision(
    labels: Values,
    scores: Values,
    counts: Counts,
) -> Draws:
    # By hand: scikit-learn's takes one set of weights a call.
    retrieved, _ = _by_value(-scores, counts)
    hits, _ = _by_value(-scores, counts * labels)
    precision = hits.cumsum(1) / np.maximum(retrieved.cumsum(1), 1)
    return (hits * precision).sum(1) / hits.sum(1)


def _ranks(x: Values, counts: Counts) -> Float[np.ndarray, "draws n"]:
    """The rank of each item within each sample, ties at their mean."""
    sums, group = _by_value(x, counts)
    ranks = sums.cumsum(1) - (sums - 1) / 2
    return ranks[:, group]


def _by_value(x: Values, weights: Counts) -> tuple[Num[np.ndarray, "draws values"], Groups]:
    """Sums of weights per distinct value of `x`, ascending, and the value's number of each item."""
    _, group = np.unique(x, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return np.add.reduceat(weights[:, order], starts, axis=1), group
