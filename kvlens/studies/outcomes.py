"""Outcomes: what a way to choose layers gains and misses, and how ID goes with quality.

It knows groups of windows of one width and bias, and no rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from pydantic import FiniteFloat

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import FiniteBias
from kvlens.store.artifact import Record, later_field
from kvlens.store.bounds import Count
from kvlens.store.layer_ranges import phrase
from kvlens.studies.comparison import Group, Interval, Resampled, rank_correlations

MIN_WINDOWS = 3  # for a rank correlation


class Source(NamedTuple):
    """What chose layers: a rule, and the profile that it looked at, if any."""

    rule: str
    states: str | None = None
    points: str | None = None


class Outcome(Record):
    """One way to choose `width` layers, Spearman x 100.

    Attributes:
        rule: of `select`, on the profile of `states` and `points`; or ``best`` window of the
            sweep, ``average``, what a window drawn at random gets, or ``no re-routing``.
        states: of the profile, None without one.
        points: of the profile, None without one.
        width: how many layers.
        bias: of all layers.
        layers: that were chosen; none for ``average`` and ``no re-routing``.
        spearman: of these layers.
        gain: over no re-routing.
        regret: best window less this, on the same pairs; too large, since the best one was found
            on them (winner's curse).
        split_regret: the best window of a random half of the pairs less this, both on the other
            half; mean and 95 % range of 1,000 halves, which is wider than an interval for all
            pairs.
        spread: of ``average``: standard deviation over the windows (ddof 1); else not there.
    """

    rule: str
    states: str | None
    points: str | None
    width: Count
    bias: FiniteBias
    layers: tuple[int, ...]
    spearman: float
    gain: Interval
    regret: Interval
    split_regret: Interval
    spread: FiniteFloat | None = later_field()

    @classmethod
    def of(
        cls, source: Source, layers: tuple[int, ...], scores: Resampled, group: Group
    ) -> Outcome:
        """What `source` chose, judged among the windows of a group."""
        return cls(
            **source._asdict(),
            width=group.width,
            bias=group.bias,
            layers=layers,
            spearman=scores.whole[0],
            gain=group.gain(scores),
            regret=group.regret(scores),
            split_regret=group.split_regret(scores),
        )

    @classmethod
    def best(cls, group: Group) -> Outcome:
        """The best window of a group."""
        layers = group.windows[group.best].layers
        return cls.of(Source("best"), layers, group.scores[group.best], group)

    @classmethod
    def average(cls, group: Group) -> Outcome:
        """What a window of a group gets that is drawn at random."""
        average = cls.of(Source("average"), (), group.scores.mean(), group)
        if len(group.windows) < 2:
            return average
        spread = group.scores.whole[:, 0].std(ddof=1)
        return average.model_copy(update={"spread": float(spread)})

    @classmethod
    def plain(cls, group: Group) -> Outcome:
        """What no re-routing gets, beside the windows of a group."""
        return cls.of(Source("no re-routing"), (), group.plain, group)

    def __str__(self) -> str:
        profile = f" ({self.states}, {self.points})" if self.states else ""
        name = f"{self.rule}{profile}, width {self.width}, bias {self.bias:g}"
        layers = phrase(self.layers) if self.layers else self._of_windows
        against = (
            f"gain {self.gain.text()}, regret {self.regret.text()}, "
            f"split_regret {self.split_regret.text()}"
        )
        return f"{name:56} {layers:20} {self.spearman:5.1f}  {against}"

    @property
    def _of_windows(self) -> str:
        return "" if self.spread is None else f"± {self.spread:.1f} over windows"


class Correlation(Record):
    """Spearman correlation of -ID and quality, over the windows of one width and bias.

    Attributes:
        states: of the profile.
        points: of the profile.
        width: how many layers a window has; its ID is their mean.
        bias: of all layers.
        n: how many windows.
        rho: its interval covers the pairs drawn and the ID's standard errors, for these windows
            of this model.
    """

    states: str
    points: str
    width: Count
    bias: FiniteBias
    n: Count
    rho: Interval

    def __str__(self) -> str:
        name = f"({self.states}, {self.points}), width {self.width}, bias {self.bias:g}"
        return f"{name:52} {self.rho.text('+.2f')}, {self.n} windows"


def correlations_of(
    group: Group, profiles: Sequence[IDProfile], estimator: str, rng: np.random.Generator
) -> list[Correlation]:
    """The correlation with each profile, over the windows whose ID it has.

    Args:
        group: of windows, on resampled pairs.
        profiles: one whose layers hold fewer than 3 of the windows is left out.
        estimator: of the ID.
        rng: for the errors of the ID.
    """
    correlations = []
    for profile in profiles:
        inside = group.within(profile.layers)
        if len(inside.windows) < MIN_WINDOWS:
            continue
        correlations.append(
            Correlation(
                states=profile.states,
                points=profile.points,
                width=group.width,
                bias=group.bias,
                n=len(inside.windows),
                rho=_rho(inside, profile, estimator, rng),
            )
        )
    return correlations


def _rho(group: Group, profile: IDProfile, estimator: str, rng: np.random.Generator) -> Interval:
    """Of -ID and quality; each bootstrap draw of the pairs has its own error of the ID."""
    quality = group.scores
    values = profile.values(estimator)[:, None]
    errors = profile.stderrs(estimator)[:, None]
    noise = rng.standard_normal((len(values), quality.bootstrap.shape[1]))
    mean_over_window = _membership(group, profile.layers) / group.width
    (rho,) = rank_correlations(-mean_over_window @ values, quality.whole)
    noisy = -mean_over_window @ (values + errors * noise)
    return Interval.of(rho, rank_correlations(noisy, quality.bootstrap))


def _membership(group: Group, layers: Sequence[int]) -> Bool[np.ndarray, "windows layers"]:
    """Whether each window has each layer."""
    return np.array([[layer in window.layers for layer in layers] for window in group.windows])
