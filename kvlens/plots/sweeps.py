"""Which windows of layers are good, and whether the rules find them: a sweep and a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.parts import (
    band,
    figure_legend,
    grey_unable,
    grid,
    horizontal_bars,
    is_leftmost,
    shade_layers,
    stripe_rows,
    unable_spans,
)
from kvlens.plots.style import BAND, STRIPE, Look, axes_or_new, styled
from kvlens.plots.words import named, window_name
from kvlens.store.layer_ranges import runs
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.outcomes import Correlation, Outcome, Source
from kvlens.studies.regret import LayerStudy
from kvlens.studies.windows import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WITHOUT_STATES = {"average": "a window drawn at random"}
"""What looks at no states -> its name in a row, where that is not its own."""


@styled
def plot_sweep(
    sweep: Sweep, layer_set: LayerSet, axes: Sequence[Axes] | None = None, width: float = 3.3
) -> list[Axes]:
    """Quality against the middle of the re-routed window, above the ID curve.

    A line for each width and bias, with bootstrap 95 % bands; grey: without re-routing. Below
    the ID with its 95 % band. Shaded: the chosen layers; greyed: those that cannot be re-routed.

    Args:
        sweep: every window of one model.
        layer_set: the layers that a rule chose, with the profile.
        axes: two that share x; by default a new figure with a legend.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    options = {"rows": 2, "sharex": True, "height_ratios": (1.5, 1)}
    panels = axes_or_new(axes, width, 4.5, **options)
    quality, dimension = panels
    _draw_plain(quality, sweep)
    for i, (kind, windows) in enumerate(_by_kind(sweep.windows).items()):
        windows.sort(key=lambda window: window.first)
        _draw_windows(quality, windows, window_name(*kind), Look.of(i))
    draw_dimension(dimension, layer_set.profile)
    for ax in panels:
        for first, last in runs(layer_set.layers):
            shade_layers(ax, first - 0.5, last + 0.5)
        grey_unable(ax, unable_spans(sweep.model))
        grid(ax)
    quality.set_ylabel("Spearman × 100")
    quality.set_xlim(-0.7, sweep.model.n_layers - 0.3)
    dimension.set_xlabel("layer (a window's middle)")
    if axes is None:
        figure_legend(quality, "lower", columns=2)
    return panels


@styled
def plot_study(
    study: LayerStudy, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """What the rules choose: regret, and how well low ID ranks the windows.

    Left: by how much the best window beats the chosen layers, a row a rule on a kind of states; the
    last rows look at no states: rules of depth, a window drawn at random, no re-routing.
    Right: the rank correlation of -ID and quality. A colour and mark a width and bias, with 95 %
    intervals.

    Args:
        study: of one model.
        axes: two that share y; by default a new figure.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    rows = _Rows.of(study.outcomes)
    options = {"columns": 2, "sharey": True, "width_ratios": (1.4, 1)}
    panels = axes_or_new(axes, width, 0.17 * len(rows) + 1.3, **options)
    regret, correlation = panels
    outcomes = _by_kind(study.outcomes)
    correlations = _by_kind(study.correlations)
    for i, kind in enumerate(outcomes):
        look = {"label": window_name(*kind), "ms": 3.5, "lw": 0.9, **Look.of(i).mark}
        aside = i - (len(outcomes) - 1) / 2
        _draw_regrets(regret, rows, outcomes[kind], 0.19 * aside, look)
        _draw_correlations(correlation, rows, correlations.get(kind, []), 0.5 * aside, look)
    for ax in panels:
        _draw_rows(ax, rows)
        ax.tick_params(axis="y", length=0, labelleft=ax is regret or is_leftmost(ax))
    regret.set_yticks(range(len(rows)), rows.names, fontsize=7)
    regret.set_ylim(len(rows) - 0.5, -0.5)
    regret.set_xlabel("best window - chosen layers (Spearman × 100)", fontsize=8)
    correlation.set_xlabel("rank correlation, -ID and quality", fontsize=8)
    correlation.set_xlim(-1, 1)
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1)}
    correlation.legend(ncols=2, frameon=False, fontsize=7, **place)
    return panels


class OfWindows(Protocol):
    """A window, an outcome or a correlation: what has a width and a bias."""

    @property
    def width(self) -> int:
        """How many layers are re-routed."""

    @property
    def bias(self) -> float:
        """Of the re-routed column's logit."""


Item = TypeVar("Item", bound=OfWindows)


def _by_kind(items: Iterable[Item]) -> dict[tuple[int, float], list[Item]]:
    """Items by their width and bias, in ascending order."""
    groups: dict[tuple[int, float], list[Item]] = {}
    for item in items:
        groups.setdefault((item.width, item.bias), []).append(item)
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class _Rows:
    """The rows of a study, from the top: what the rules choose on each kind of states.

    Attributes:
        places: what chose -> row.
        sources: (states, points) -> its rows; None for those that look at none.
    """

    places: dict[Source, int]
    sources: dict[tuple[str | None, str | None], list[int]]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> _Rows:
        """In order of appearance, those without a profile last; the best window has no row."""
        rows = cls({}, {})
        chose = dict.fromkeys(_source_of(outcome) for outcome in outcomes)
        for source in sorted(chose, key=lambda source: source.states is None):
            if source.rule != "best":
                rows._add(source)
        return rows

    def _add(self, source: Source) -> None:
        self.sources.setdefault((source.states, source.points), []).append(len(self))
        self.places[source] = len(self)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def names(self) -> list[str]:
        """What the rows are called."""
        return [
            f"{source.states}, {source.points}: {source.rule}"
            if source.states
            else WITHOUT_STATES.get(source.rule, source.rule)
            for source in self.places
        ]


def _source_of(outcome: Outcome) -> Source:
    return Source(outcome.rule, outcome.states, outcome.points)


def _draw_regrets(
    ax: Axes, rows: _Rows, outcomes: Sequence[Outcome], aside: float, look: dict[str, Any]
) -> None:
    """The regret of each rule, `aside` of the middle of its row."""
    places = []
    regrets = []
    for outcome in outcomes:
        row = rows.places.get(_source_of(outcome))
        if row is not None:
            places.append(row + aside)
            regrets.append(outcome.regret)
    horizontal_bars(ax, places, regrets, **look)


def _draw_correlations(
    ax: Axes, rows: _Rows, correlations: Sequence[Correlation], aside: float, look: dict[str, Any]
) -> None:
    """The rank correlation on each kind of states, `aside` of the middle of its rows."""
    places = []
    for correlation in correlations:
        middle = float(np.mean(rows.sources[correlation.states, correlation.points]))
        places.append(middle + aside)
    horizontal_bars(ax, places, [correlation.rho for correlation in correlations], **look)


def _draw_rows(ax: Axes, rows: _Rows) -> None:
    """The rows of every other kind of states on a stripe; a line at zero."""
    for i, places in enumerate(rows.sources.values()):
        colour = STRIPE if i % 2 == 0 else "1"
        stripe_rows(ax, places[0], places[-1], colour)
    ax.axvline(0, color="0.3", lw=0.8, ls="--")
    grid(ax, "x")


def _draw_plain(ax: Axes, sweep: Sweep) -> None:
    """The quality without re-routing, with its interval."""
    ax.axhspan(sweep.plain_low, sweep.plain_high, color="0.6", alpha=0.35, lw=0)
    ax.axhline(sweep.plain, color="0.3", lw=1, ls="--", label="no re-routing")


def _draw_windows(ax: Axes, windows: Sequence[Window], name: str, look: Look) -> None:
    """The windows of one width and bias, by their middle."""
    middles = [(window.layers[0] + window.layers[-1]) / 2 for window in windows]
    quality = [window.spearman for window in windows]
    marks: dict[str, Any] = {"color": look.colour, "marker": look.marker[0]}
    ax.plot(middles, quality, ms=3, lw=1.2, label=name, **marks)
    low = [window.low for window in windows]
    high = [window.high for window in windows]
    band(ax, middles, low, high, color=look.colour, alpha=0.12)


def draw_dimension(ax: Axes, profile: IDProfile) -> None:
    """The ID by the profile's first estimator."""
    estimator = next(iter(profile.estimates))
    values = profile.values(estimator)
    errors = BAND * profile.stderrs(estimator)
    ax.plot(profile.layers, values, color="black", marker="o", ms=2.5, lw=1.2)
    band(ax, profile.layers, values - errors, values + errors, color="black", alpha=0.15)
    ax.set_ylabel(f"ID ({named(estimator)})")
    ax.set_ylim(0, None)
