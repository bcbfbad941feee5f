"""Which windows of layers are good, and whether the rules find them: a sweep and a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.parts import (
    band,
    figure_legend,
    grid,
    horizontal_bars,
    shade_layers,
    stripe_rows,
)
from kvlens.plots.style import BAND, STRIPE, Look, axes_or_new, styled
from kvlens.plots.words import WORDS, window_name
from kvlens.store.layer_ranges import runs
from kvlens.studies.layer_sweep import Sweep, Window
from kvlens.studies.regret import LayerStudy, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[str | None, str | None, str]  # states, points, rule


@styled
def plot_sweep(
    sweep: Sweep, layer_set: LayerSet, axes: Sequence[Axes] | None = None, width: float = 3.3
) -> list[Axes]:
    """Quality against the middle of the re-routed window, above the ID curve.

    A line for each width and bias, with bootstrap 95 % bands; grey: without re-routing. Below
    the ID with its 95 % band. Shaded: the chosen layers.

    Args:
        sweep: every window of one model.
        layer_set: the layers that a rule chose, with the profile.
        axes: two that share x; by default a new figure with a legend.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    options = {"rows": 2, "sharex": True, "height_ratios": (1.5, 1)}
    drawn = axes_or_new(axes, width, 4.5, **options)
    quality, dimension = drawn
    _draw_plain(quality, sweep)
    for i, (size, bias) in enumerate(sorted({(w.width, w.bias) for w in sweep.windows})):
        windows = [w for w in sweep.windows if (w.width, w.bias) == (size, bias)]
        windows.sort(key=lambda window: window.first)
        _draw_windows(quality, windows, window_name(size, bias), Look.of(i))
    _draw_dimension(dimension, layer_set.profile)
    for ax in drawn:
        for first, last in runs(layer_set.layers):
            shade_layers(ax, first - 0.5, last + 0.5)
        grid(ax)
    quality.set_ylabel("Spearman × 100")
    quality.set_xlim(-0.7, sweep.model.n_layers - 0.3)
    dimension.set_xlabel("layer (a window's middle)")
    if axes is None:
        figure_legend(quality, "lower", columns=2)
    return drawn


@styled
def plot_study(
    study: LayerStudy, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """What the rules choose: regret, and how well low ID ranks the windows.

    Left: by how much the best window beats the chosen layers, a row a rule on a kind of states.
    Right: the rank correlation of -ID and quality. A colour and mark a width and bias, with 95 %
    intervals.

    Args:
        study: of one model.
        axes: two that share y; by default a new figure.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    rows = list(dict.fromkeys(_row(o) for o in study.outcomes if o.states))
    sources = _rows_by_source(rows)
    options = {"columns": 2, "sharey": True, "width_ratios": (1.4, 1)}
    drawn = axes_or_new(axes, width, 0.17 * len(rows) + 1.3, **options)
    regret, correlation = drawn
    kinds = sorted({(o.width, o.bias) for o in study.outcomes})
    for i, kind in enumerate(kinds):
        aside = i - (len(kinds) - 1) / 2
        look = {"label": window_name(*kind), "ms": 3.5, "lw": 0.9, **Look.of(i).mark}
        outcomes = [o for o in study.outcomes if o.states and (o.width, o.bias) == kind]
        places = np.array([rows.index(_row(outcome)) for outcome in outcomes])
        horizontal_bars(regret, places + 0.19 * aside, [o.regret for o in outcomes], **look)
        ranked = [c for c in study.correlations if (c.width, c.bias) == kind]
        middles = np.array([np.mean(sources[c.states, c.points]) for c in ranked])
        horizontal_bars(correlation, middles + 0.5 * aside, [c.rho for c in ranked], **look)
    for ax in drawn:
        _source_axis(ax, sources)
        ax.tick_params(axis="y", length=0, labelleft=ax is regret)
    names = [f"{states}, {points}: {rule}" for states, points, rule in rows]
    regret.set_yticks(range(len(rows)), names, fontsize=7)
    regret.set_ylim(len(rows) - 0.5, -0.5)
    regret.set_xlabel("best window - chosen layers (Spearman × 100)", fontsize=8)
    correlation.set_xlabel("rank correlation, -ID and quality", fontsize=8)
    correlation.set_xlim(-1, 1)
    look = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}
    correlation.legend(ncols=2, fontsize=7, **look)
    return drawn


def _draw_plain(ax: Axes, sweep: Sweep) -> None:
    """The quality without re-routing, with its interval."""
    ax.axhspan(sweep.plain_low, sweep.plain_high, color="0.6", alpha=0.35, lw=0)
    ax.axhline(sweep.plain, color="0.3", lw=1, ls="--", label="no re-routing")


def _draw_windows(ax: Axes, windows: Sequence[Window], name: str, look: Look) -> None:
    """The windows of one width and bias, by their middle."""
    middles = [window.first + (window.width - 1) / 2 for window in windows]
    quality = [window.spearman for window in windows]
    marks: dict[str, Any] = {"color": look.colour, "marker": look.marker[0]}
    ax.plot(middles, quality, ms=3, lw=1.2, label=name, **marks)
    low = [window.low for window in windows]
    high = [window.high for window in windows]
    band(ax, middles, low, high, color=look.colour, alpha=0.12)


def _draw_dimension(ax: Axes, profile: IDProfile) -> None:
    """The ID by the profile's first estimator."""
    estimator = next(iter(profile.estimates))
    values = profile.values(estimator)
    errors = BAND * profile.stderrs(estimator)
    ax.plot(profile.layers, values, color="black", marker="o", ms=2.5, lw=1.2)
    band(ax, profile.layers, values - errors, values + errors, color="black", alpha=0.15)
    ax.set_ylabel(f"ID ({WORDS.get(estimator, estimator)})")
    ax.set_ylim(0, None)


def _row(outcome: Outcome) -> Row:
    return outcome.states, outcome.points, outcome.rule


def _rows_by_source(rows: Sequence[Row]) -> dict[tuple[str | None, str | None], list[int]]:
    """States and points of a profile -> the places of its rows."""
    places: dict[tuple[str | None, str | None], list[int]] = {}
    for place, (states, points, _) in enumerate(rows):
        places.setdefault((states, points), []).append(place)
    return places


def _source_axis(ax: Axes, sources: Mapping[Any, Sequence[int]]) -> None:
    """The rows of every other kind of states on a stripe; a line at zero."""
    for i, places in enumerate(sources.values()):
        colour = STRIPE if i % 2 == 0 else "1"
        stripe_rows(ax, min(places), max(places), colour)
    ax.axvline(0, color="0.3", lw=0.8, ls="--")
    grid(ax, "x")
