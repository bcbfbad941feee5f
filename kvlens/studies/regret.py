"""Layer study: do the rules that choose layers by intrinsic dimension (ID) find the windows that a sweep favours?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from scipy.stats import rankdata

from kvlens.dimension.profile import IDProfile
from kvlens.evaluation.significance import PAIR_DRAWS as DRAWS
from kvlens.evaluation.significance import draws, spearman
from kvlens.layers.rules import PROFILE_RULES
from kvlens.layers.selection import select
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import versions
from kvlens.studies.layer_sweep import Sweep

Source = tuple[str, str | None, str | None]  # rule, states, points


class Interval(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Outcome(Record):
    """One way to choose `width` layers, Spearman x 100. rule: of `select`, on the profile of `states` and `points`;
    or ``best`` window of the sweep, or ``average``, what a window drawn at random gets.

    gain: over no re-routing. regret: best window less this, on the same pairs; too large, since the best one was
    found on them (winner's curse). split_regret: the best window of a random half of the pairs less this, both on the
    other half; mean and 95 % range of 1,000 halves, which is wider than an interval for all pairs.
    """

    rule: str
    states: str | None
    points: str | None
    width: int
    bias: float
    layers: tuple[int, ...]
    spearman: float
    gain: Interval
    regret: Interval
    split_regret: Interval


class Correlation(Record):
    """Spearman correlation, over the n windows of one width and bias, of -ID (mean of the window's layers) and
    quality. Its interval covers the pairs drawn and the ID's standard errors, for these windows of this model."""

    states: str
    points: str
    width: int
    bias: float
    n: int
    rho: Interval


class LayerStudy(JsonArtifact):
    """Does the ID rule pick the right layers? outcomes and correlations by width and bias."""

    what: ClassVar[str] = "a layer study"
    again: ClassVar[str] = "run `kvlens sweep --profiles` again"

    format: Literal["kvlens.layer-study"] = "kvlens.layer-study"
    version: Literal[1] = 1
    model: ModelInfo
    data: str
    n_pairs: int
    plain: float
    estimator: str
    outcomes: tuple[Outcome, ...]
    correlations: tuple[Correlation, ...]
    versions: dict[str, str]
    command: str

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}, {self.n_pairs} pairs of {self.data}: Spearman x 100, {self.plain:.1f} plain"
        ]
        for o in self.outcomes:
            source = f" ({o.states}, {o.points})" if o.states else ""
            told = f"{o.rule}{source}, width {o.width}, bias {o.bias:g}"
            numbers = ", ".join(
                f"{name} {_show(getattr(o, name))}" for name in ("gain", "regret", "split_regret")
            )
            lines.append(
                f"  {told:56} {phrase(o.layers) if o.layers else '':20} {o.spearman:5.1f}  {numbers}"
            )
        lines.append("rank correlation of -ID and quality over the windows")
        for c in self.correlations:
            told = f"({c.states}, {c.points}), width {c.width}, bias {c.bias:g}"
            lines.append(f"  {told:52} {_show(c.rho, '+.2f')}, {c.n} windows")
        return "\n".join(lines)


def _show(x: Interval, form: str = "+.1f") -> str:
    return f"{x.value:{form}} ({x.low:{form}} to {x.high:{form}})"


def choices(
    profiles: Sequence[IDProfile], width: int, estimator: str = "twonn"
) -> dict[Source, tuple[int, ...]]:
    """The layers that each rule of `select` takes when told to take `width`, by (rule, states, points).

    Raises InputError for two profiles of the same states and points.
    """
    kinds = [(p.states, p.points) for p in profiles]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise InputError(
            f"two profiles of {twice[0][0]}, {twice[0][1]}: give one of each states and points"
        )
    share = (width - 1) / profiles[0].model.n_layers if profiles else 0
    return {
        (rule, p.states, p.points): select(p, rule, window=share, estimator=estimator).layers
        for p in profiles
        for rule in PROFILE_RULES
    }


def study(
    sweep: Sweep,
    profiles: Sequence[IDProfile],
    estimator: str = "twonn",
    others: Sequence[tuple[str, Sequence[int]]] = (),
    command: str = "",
) -> LayerStudy:
    """Compare what the rules choose with every window of the sweep, for each width and bias in it.

    others: further choices (name of the rule, layers), judged among the windows of their width.
    Raises InputError for a profile of another model, for two of the same states and points, and when a chosen layer
    set was not measured.
    """
    if other := [p.model.name for p in profiles if not p.model.same_weights(sweep.model)]:
        raise InputError(
            f"the sweep is of {sweep.model.name}, a profile of {other[0]}: give profiles of one model"
        )
    human, n, rng = np.array(sweep.human), sweep.n_pairs, np.random.default_rng(sweep.seed)
    half = rng.permuted(np.tile(np.arange(n) < n // 2, (DRAWS, 1)), axis=1)
    counts = [np.ones((1, n)), draws(n, sweep.seed), half.astype(float), (~half).astype(float)]
    outcomes, correlations = [], []
    for width, bias in sorted({(w.width, w.bias) for w in sweep.windows}):
        group = [w for w in sweep.windows if (w.width, w.bias) == (width, bias)]
        picks: list[tuple[Source, tuple[int, ...]]] = [*choices(profiles, width, estimator).items()]
        picks += [
            ((name, None, None), tuple(layers)) for name, layers in others if len(layers) == width
        ]
        found = {layers: sweep.find(layers, bias) for _, layers in picks}
        if missing := [layers for layers, w in found.items() if w is None]:
            raise InputError(
                f"{phrase(missing[0])} with bias {bias:g} was not measured: sweep again with --profiles"
            )
        cosines = [
            sweep.plain_cosines,
            *(w.cosines for w in group),
            *(w.cosines for w in found.values() if w),
        ]
        measured = [spearman(np.array(cosines), human, c) for c in counts]
        ours = slice(1, 1 + len(group))
        best = 1 + int(measured[0][ours, 0].argmax())
        everyone: list[tuple[Source, tuple[int, ...], list[np.ndarray]]] = [
            (("best", None, None), group[best - 1].layers, [m[best] for m in measured])
        ]
        everyone += [(("average", None, None), (), [m[ours].mean(0) for m in measured])]
        at = {layers: 1 + len(group) + i for i, layers in enumerate(found)}
        everyone += [
            (source, layers, [m[at[layers]] for m in measured]) for source, layers in picks
        ]
        whole, boot, chosen_on, judged_on = measured
        half_best = judged_on[ours][chosen_on[ours].argmax(0), np.arange(DRAWS)]
        for (rule, states, points), layers, (own, own_boot, _, own_half) in everyone:
            outcomes.append(
                Outcome(
                    rule=rule,
                    states=states,
                    points=points,
                    width=width,
                    bias=bias,
                    layers=layers,
                    spearman=own[0],
                    gain=_interval((own - whole[0])[0], own_boot - boot[0]),
                    regret=_interval((whole[best] - own)[0], boot[best] - own_boot),
                    split_regret=_interval(np.nanmean(half_best - own_half), half_best - own_half),
                )
            )
        for p in profiles:
            known = [i for i, w in enumerate(group, 1) if set(w.layers) <= set(p.layers)]
            if len(known) < 3:  # no rank correlation
                continue
            members = (
                np.array([[layer in group[i - 1].layers for layer in p.layers] for i in known])
                / width
            )
            values, errors = p.values(estimator), p.stderrs(estimator)
            noisy = values[:, None] + errors[:, None] * rng.standard_normal((len(values), DRAWS))
            low = _rank_correlation(-members @ noisy, boot[known])
            value = _rank_correlation(-members @ values[:, None], whole[known])[0]
            rho = _interval(value, low)
            correlations.append(
                Correlation(
                    states=p.states, points=p.points, width=width, bias=bias, n=len(known), rho=rho
                )
            )
    return LayerStudy(
        model=sweep.model,
        data=sweep.data,
        n_pairs=n,
        plain=sweep.plain,
        estimator=estimator,
        outcomes=tuple(outcomes),
        correlations=tuple(correlations),
        versions=versions(),
        command=command,
    )


def _interval(value: float, samples: np.ndarray) -> Interval:
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    return Interval(value=value, low=low, high=high)


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman correlation of matching columns, [rows, draws] each."""
    a, b = (rankdata(x, axis=0) - (len(x) + 1) / 2 for x in (a, b))
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
