"""What each part of a route does: a map of query heads, and a row for every larger part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.plots.parts import (
    caption_below,
    colour_bar,
    grid,
    heat_map,
    horizontal_bars,
    is_leftmost,
    legend_above,
)
from kvlens.plots.style import GREY_CELL, Look, axes_or_new, styled
from kvlens.plots.words import MOVED, REROUTED_LAYER, counted
from kvlens.store.checking import a, arguments, axes_to_draw_in, members, optional, real
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.studies.comparison import Interval
from kvlens.studies.effects import OWN, Effect, Effects
from kvlens.studies.route_parts import Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HeadMap = Float[np.ndarray, "n_rerouted n_heads"]

MOST_LABELS = 16  # layers that are labelled on an axis
MOST_HEADS = 9
MARKS = {"": "prefix left out", "zero": "value 0", "mean": "mean of texts", "other": "another's"}
"""What stands for what is the text's own -> its name in the legend; empty: no prefix at all."""
POINT: dict[str, Any] = {"ms": 4.5, "lw": 1, "capsize": 2}
STEP = 0.17  # of a row, between two of its marks

an_effects = a(Effects, "effects of `kvlens.effects`")


@arguments(
    effects=an_effects,
    axes=optional(members(axes_to_draw_in, "Axes")),
    width=real(least=0.5),
)
@styled
def plot_effects(
    effects: Effects, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """How far embeddings move without a part of the route, and what the part adds to the score.

    The first two axes are maps by re-routed layer and query head: the mean over texts of
    1 - cosine, and that mean over the standard deviation (above 1: most texts move alike). Grey: a
    head that there is not, or that does not see the prefix. The third has a row for the whole
    route, each layer and the tokens; bars: one standard deviation over texts, cut at 0. The fourth,
    of pairs, has in the same rows, unnamed, what is gained by the part, with its paired 95 %
    interval.

    Args:
        effects: of a route's parts.
        axes: where to draw, four with pairs, else three; by default a new figure with a caption
            below.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: for another number of axes.
    """
    n_axes = 4 if effects.n_pairs else 3
    panels = _panels(effects, axes, n_axes, width)
    if len(panels) != n_axes:
        raise InputError(f"`axes` are {len(panels)}, these effects need {n_axes}")
    mean, steadiness = head_maps(effects)
    _draw_map(panels[0], effects, mean, f"{MOVED}, mean")
    panels[0].set_ylabel(REROUTED_LAYER)
    _draw_map(panels[1], effects, steadiness, "mean / SD")
    _draw_moved(panels[2], effects)
    if effects.n_pairs:
        _draw_score(panels[3], effects)
    legend_above(panels[2], n_axes - 2, *_entries(effects), fontsize=7, columnspacing=1)
    if axes is None:
        caption_below(panels[0], _caption(effects))
    return panels


def head_maps(effects: Effects) -> tuple[HeadMap, HeadMap]:
    """Mean over texts of 1 - cosine without each head, and the mean over its standard deviation.

    NaN where there is no such head, and, of the second, where texts do not differ.
    """
    heads = effects.of("head")
    n_heads = 1 + max((each.head or 0 for each in heads), default=0)
    mean = np.full((len(effects.layers), n_heads), np.nan)
    steadiness = mean.copy()
    for each in heads:
        row = effects.layers.index(_layer_of(each))
        mean[row, each.head] = each.moved
        if each.spread > 0:
            steadiness[row, each.head] = each.moved / each.spread
    return mean, steadiness


def _layer_of(effect: Effect) -> int:
    if effect.layer is None:
        raise ValueError(f"{effect.words} has no layer")
    return effect.layer


def panel_heights(effects: Effects) -> tuple[float, float]:
    """How high the maps and the panels with rows should be, in inches."""
    return 1.2 + min(0.2 * len(effects.layers), 4), 0.9 + 0.27 * len(_rows(effects))


def _panels(effects: Effects, axes: Sequence[Axes] | None, n_axes: int, width: float) -> list[Axes]:
    """The caller's axes, or a new figure's: maps above rows where there are scores."""
    maps, rows = panel_heights(effects)
    if n_axes == 3:
        options: dict[str, Any] = {"columns": 3, "width_ratios": (1, 1, 1.5)}
        return axes_or_new(axes, width, max(maps, rows) + 0.5, **options)
    options = {"rows": 2, "columns": 2, "height_ratios": (maps, rows)}
    return axes_or_new(axes, width, maps + rows + 0.4, **options)


def _draw_map(ax: Axes, effects: Effects, values: HeadMap, label: str) -> None:
    n_layers, n_heads = values.shape
    extent = (-0.5, n_heads - 0.5, n_layers - 0.5, -0.5)
    most = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    image = heat_map(ax, np.ma.masked_invalid(values), extent, vmin=0, vmax=most or 1)
    ax.set_facecolor(GREY_CELL)
    rows = range(0, n_layers, -(-n_layers // MOST_LABELS))
    ax.set_yticks(rows, [str(effects.layers[row]) for row in rows])
    ax.set_xticks(range(0, n_heads, -(-n_heads // MOST_HEADS)))
    ax.set_xlabel("query head left out")
    colour_bar(image, ax, label, pad=0.02)


def _rows(effects: Effects) -> list[tuple[str, list[Effect]]]:
    """Rows from the top: their names, and the effects of each, whole before values."""
    values = effects.of("value")
    route = [*effects.of("route"), *(each for each in values if each.layer is None)]
    rows = [("all layers", route)]
    for layer in effects.of("layer"):
        of_layer = [each for each in values if each.layer == layer.layer]
        rows.append((layer.words, [layer, *of_layer]))
    rows += [(f"for {each.name}", [each]) for each in effects.of("queries")]
    kinds: tuple[tuple[str, Kind], ...] = (("keys", "key"), ("keys, values", "content"))
    rows += [
        (f"all layers: {name}", list(effects.of(kind))) for name, kind in kinds if effects.of(kind)
    ]
    return rows


def _mark(effect: Effect) -> str:
    """The mark of an effect: one of `MARKS`."""
    return effect.name if effect.kind in OWN else ""


def _look(name: str) -> dict[str, Any]:
    return {**POINT, **Look.of(list(MARKS).index(name)).mark}


def _places(effects: Effects, name: str) -> list[tuple[float, Effect]]:
    """Where the effects of one mark stand, and they."""
    step = STEP * list(MARKS).index(name)
    return [
        (row + step, each)
        for row, (_, of_row) in enumerate(_rows(effects))
        for each in of_row
        if _mark(each) == name
    ]


def _marks(effects: Effects) -> list[str]:
    return [name for name in MARKS if _places(effects, name)]


def _draw_moved(ax: Axes, effects: Effects) -> None:
    for name in _marks(effects):
        places = _places(effects, name)
        spread = [
            Interval(value=each.moved, low=max(each.moved - each.spread, 0), high=_high(each))
            for _, each in places
        ]
        horizontal_bars(ax, [y for y, _ in places], spread, **_look(name))
    ax.set_xlim(0)
    ax.set_xlabel(f"{MOVED}\nmean ± SD over texts")
    _row_axis(ax, effects, [name for name, _ in _rows(effects)])


def _high(effect: Effect) -> float:
    return effect.moved + effect.spread


def _draw_score(ax: Axes, effects: Effects) -> None:
    for name in _marks(effects):
        places = _places(effects, name)
        gains = [each.score for _, each in places if each.score is not None]
        horizontal_bars(ax, [y for y, _ in places], gains, **_look(name))
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set_xlabel("gain by the part, Spearman × 100\n95 % interval")
    names = [name for name, _ in _rows(effects)]
    _row_axis(ax, effects, names if is_leftmost(ax) else [""] * len(names))


def _row_axis(ax: Axes, effects: Effects, names: Sequence[str]) -> None:
    middle = STEP * (len(_marks(effects)) - 1) / 2
    ax.set_yticks(np.arange(len(names)) + middle, names)
    ax.set_ylim(len(names) - 0.35, -0.35)
    grid(ax, "x")


def _entries(effects: Effects) -> tuple[list[Any], list[str]]:
    """Handles and names for a legend."""
    from matplotlib.lines import Line2D

    marks = _marks(effects)
    looks = [Look.of(list(MARKS).index(name)).mark for name in marks]
    handles = [Line2D([], [], ms=POINT["ms"], **look) for look in looks]
    return handles, [MARKS[name] for name in marks]


def _caption(effects: Effects) -> str:
    biases = ", ".join(f"{bias:g}" for bias in dict.fromkeys(effects.bias))
    layers = f"{phrase(effects.layers)} of {effects.model.n_layers} re-routed"
    facts = [
        effects.model.name,
        f"{layers}, bias {biases}, position {effects.position}, {effects.pooling} pooling",
        f"prompt {effects.prompt.name}",
        counted(effects.texts.n, "texts"),
    ]
    if effects.control.source_words:
        facts.insert(2, effects.control.source_words)
    if effects.score is not None:
        facts.append(f"{effects.n_pairs:,} pairs: {effects.score.text('.1f')} with all of it")
    facts.append(f"{MOVED}: of embeddings with and without the part; SD: over texts")
    return f"{'; '.join(facts)}."
