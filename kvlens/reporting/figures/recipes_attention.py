"""Figures of what re-routing does to attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.plots.parts import colour_bar, figure_legend
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.uptake import beta_map, draw_beta_map, plot_ends
from kvlens.plots.words import SPANS
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import (
    Drawn,
    Told,
    attention_source,
    load_results,
    not_recorded,
)

SHIFTS = ("shift-prompted", "shift-text", "shift-chosen")


def beta_by_layer(data: Path, layout: Layout = DOUBLE, told: Told = not_recorded) -> Drawn:
    """Left and middle: the weight beta that queries give to the re-routed prefix (mean over heads
    and tokens), for every layer on unchanged inputs (local effect), by tenths of the prompted text
    and of the text's own tokens. Where the first tenth stands out on the left alone, it is the
    prompt's tokens, the attention sink among them, that take the prefix up, not the text's early
    tokens. Each model has its own colour scale. Right: the chosen layers, the first and the last
    tenth of the text's own tokens; bars: one standard deviation over texts. Propagated: the chosen
    layers below are re-routed as well.
    """
    results = load_results(data, *SHIFTS)
    models = [shifts[0] for shifts in results]
    rows = layout.model_rows(models, 3, 2.6, width_ratios=(1, 1, 1.2))
    numbers = []
    sources = []
    for axes, shifts in zip(rows, results, strict=True):
        prompted, text, chosen = shifts
        _draw_maps(axes[:2], prompted, text)
        _draw_ends(axes[2], chosen)
        numbers += _uptake_in_words(prompted, text, chosen.layers[0])
        sources += [attention_source(*pair, told) for pair in zip(shifts, SHIFTS, strict=True)]
    figure_legend(rows[0][2], "lower", layout.legend_columns)
    return Drawn(root_figure(rows[0]), " ".join(numbers), sources)


def _draw_maps(axes: Sequence[Any], *shifts: AttentionShift) -> None:
    """The maps of one model, in one colour scale."""
    maps = [beta_map(shift, "local") for shift in shifts]
    top = max(values.max() for values in maps)
    for ax, shift, values in zip(axes, shifts, maps, strict=True):
        image = draw_beta_map(ax, values, top)
        ax.set_xlabel(f"position, % of\n{SPANS[shift.span]}")
    axes[0].set_ylabel("layer")
    colour_bar(image, axes, "prefix's weight β (local)", pad=0.02, aspect=30)


def _draw_ends(ax: Any, shift: AttentionShift) -> None:
    """Both ends of the text, without a legend."""
    plot_ends(shift, ax)
    ax.set_xlabel("re-routed layer\n(the text's own tokens)")
    ax.get_legend().remove()


def _uptake_in_words(prompted: AttentionShift, text: AttentionShift, chosen: int) -> list[str]:
    """Beta at both ends: of the layer that takes most at the text's beginning, and of `chosen`."""
    of_prompted = beta_map(prompted, "local")
    of_text = beta_map(text, "local")
    most = text.layers[int(of_text[:, 0].argmax())]
    sentences = []
    for layer, name in ((most, "takes most"), (chosen, "the first chosen one")):
        row = text.layers.index(layer)
        first, last = of_prompted[row, [0, -1]]
        ends = f"{first:.3f} in the first, {last:.3f} in the last tenth of the prompted text"
        first, last = of_text[row, [0, -1]]
        own_ends = f"{first:.3f} and {last:.3f} of the text's own tokens"
        sentences.append(f"{text.model.name}, layer {layer} ({name}): {ends}, {own_ends}.")
    return sentences


def before_after(
    data: Path, layout: Layout = DOUBLE, told: Told = not_recorded, model: str = "*"
) -> Drawn:
    """Attention before and after re-routing on one text (mean over heads), at the lowest re-routed
    layer. The prefix, in a column of its own, offers every token the final token's key and value;
    all other weights shrink by what it takes, most visibly those on the sink. The first token had
    nothing but itself to attend to.
    """
    ((patterns,),) = load_results(data, "patterns", model=model)
    stacked: Any = layout.axes(2.6, 1, 2) if layout.stacked else None
    before, _ = plot_patterns(patterns, patterns.layers[0], axes=stacked, width=layout.width)
    numbers = _prefix_in_words(patterns)
    return Drawn(before.figure, numbers, [attention_source(patterns, "patterns", told)])


def _prefix_in_words(patterns: AttentionPatterns) -> str:
    """What the prefix takes of the first token, of the text's tokens, and of four above all."""
    beta = patterns.arrays["after"][0, :, :, 0].mean(0)
    first, end = patterns.text_span
    of_text = beta[first:end]
    most = []
    for place in first + np.argsort(-of_text)[:4]:
        most.append(f"“{patterns.tokens[place].strip()}” {beta[place]:.2f}")
    sink = f"{beta[0]:.2f} of the first token's weight"
    mean = f"{of_text.mean():.2f} of a text token's on average"
    return f"The prefix takes {sink} and {mean}, most of {', '.join(most)}."
