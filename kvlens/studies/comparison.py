"""Comparison: ways to choose layers, judged on the same resampled pairs.

It knows windows and their cosines, and neither profiles nor rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from kvlens.evaluation.significance import PAIR_DRAWS, draws, interval, spearman
from kvlens.store.artifact import Record
from kvlens.studies.windows import Window


class Interval(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, samples: Float[np.ndarray, " draws"]) -> Interval:
        """The interval that the samples span; NaN among them is left out."""
        low, high = interval(samples)
        return cls(value=value, low=low, high=high)

    def text(self, form: str = "+.1f") -> str:
        """The value and its interval, each in `form`."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


@dataclass(frozen=True)
class Resampled:
    """A quantity of some sets of layers, Spearman x 100, on all pairs and on resampled ones.

    Attributes:
        whole: on all pairs, float64 ``[*sets, 1]``.
        bootstrap: on each bootstrap draw of the pairs, float64 ``[*sets, draws]``.
        half: on a random half of them, drawn again and again, float64 ``[*sets, draws]``.
        other_half: on the rest of them.
    """

    whole: Float[np.ndarray, "*sets 1"]
    bootstrap: Float[np.ndarray, "*sets draws"]
    half: Float[np.ndarray, "*sets draws"]
    other_half: Float[np.ndarray, "*sets draws"]

    def __getitem__(self, rows: int | list[int]) -> Resampled:
        """One set, or several of them."""
        return Resampled(
            self.whole[rows], self.bootstrap[rows], self.half[rows], self.other_half[rows]
        )

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference on the same pairs."""
        return Resampled(
            self.whole - other.whole,
            self.bootstrap - other.bootstrap,
            self.half - other.half,
            self.other_half - other.other_half,
        )

    def mean(self) -> Resampled:
        """The mean over the sets."""
        return Resampled(
            self.whole.mean(0), self.bootstrap.mean(0), self.half.mean(0), self.other_half.mean(0)
        )

    def interval(self) -> Interval:
        """Of one set: the value on all pairs with its bootstrap 95 % interval."""
        return Interval.of(self.whole[0], self.bootstrap)


@dataclass(frozen=True)
class Resampling:
    """How often each pair is in each draw.

    Attributes:
        human: the human scores, float64 ``[n_pairs]``.
        bootstrap: counts, float64 ``[draws, n_pairs]``.
        half: 1 for the pairs of a random half, else 0, float64 ``[draws, n_pairs]``.
        other_half: 1 for the rest of them.
    """

    human: Float[np.ndarray, " n_pairs"]
    bootstrap: Float[np.ndarray, "draws n_pairs"]
    half: Float[np.ndarray, "draws n_pairs"]
    other_half: Float[np.ndarray, "draws n_pairs"]

    @classmethod
    def of(
        cls, human: Float[np.ndarray, " n_pairs"], seed: int, rng: np.random.Generator
    ) -> Resampling:
        """1,000 bootstrap draws, seeded, and 1,000 random halves, from `rng`."""
        n = len(human)
        first_half = np.tile(np.arange(n) < n // 2, (PAIR_DRAWS, 1))
        half = rng.permuted(first_half, axis=1)
        return cls(human, draws(n, seed), half.astype(float), (~half).astype(float))

    def scores(self, cosines: Float[np.ndarray, "sets n_pairs"]) -> Resampled:
        """The correlation of each set's cosines with the human scores."""
        once = np.ones((1, len(self.human)))
        return Resampled(
            whole=spearman(cosines, self.human, once),
            bootstrap=spearman(cosines, self.human, self.bootstrap),
            half=spearman(cosines, self.human, self.half),
            other_half=spearman(cosines, self.human, self.other_half),
        )


@dataclass(frozen=True)
class Group:
    """The windows of one width and bias, on the same resampled pairs.

    Attributes:
        width: how many layers.
        bias: of all layers.
        windows: by depth.
        scores: of the windows.
        plain: the score without re-routing.
    """

    width: int
    bias: float
    windows: Sequence[Window]
    scores: Resampled
    plain: Resampled

    @property
    def best(self) -> int:
        """The number of the window that is best on all pairs."""
        return int(self.scores.whole[:, 0].argmax())

    def within(self, layers: Collection[int]) -> Group:
        """The group's windows that have no other layer than these."""
        rows = [row for row, window in enumerate(self.windows) if set(window.layers) <= set(layers)]
        windows = [self.windows[row] for row in rows]
        return replace(self, windows=windows, scores=self.scores[rows])

    def gain(self, scores: Resampled) -> Interval:
        """`scores` less no re-routing."""
        return (scores - self.plain).interval()

    def regret(self, scores: Resampled) -> Interval:
        """The best window less `scores`, on the same pairs: the winner's curse is in it."""
        return (self.scores[self.best] - scores).interval()

    def split_regret(self, scores: Resampled) -> Interval:
        """The best window of a random half less `scores`, on the other half.

        Mean and 95 % range over the halves.
        """
        difference = self._best_of_half - scores.other_half
        return Interval.of(np.nanmean(difference), difference)

    @cached_property
    def _best_of_half(self) -> Float[np.ndarray, " draws"]:
        """For each random half: how the window that is best on it does on the other half."""
        best = self.scores.half.argmax(0)
        return self.scores.other_half[best, np.arange(len(best))]


def rank_correlations(
    a: Float[np.ndarray, "rows draws"], b: Float[np.ndarray, "rows draws"]
) -> Float[np.ndarray, " draws"]:
    """Spearman correlation of matching columns; NaN for a column without variance."""
    middle = (len(a) + 1) / 2
    ranks_a = rankdata(a, axis=0) - middle
    ranks_b = rankdata(b, axis=0) - middle
    covariance = (ranks_a * ranks_b).sum(0)
    return covariance / np.sqrt((ranks_a**2).sum(0) * (ranks_b**2).sum(0))
