"""Figures of which layers are good, and whether the rules find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvlens.plots.parts import figure_legend
from kvlens.plots.readout import plot_readout
from kvlens.plots.sweeps import plot_study, plot_sweep
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, load_results, source
from kvlens.store.layer_ranges import phrase
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy


def depth(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Above: quality when the layers of one window are re-routed, with bootstrap 95 % bands;
    dashed, grey: without re-routing. Below: intrinsic dimension ± 1.96 standard errors. Shaded: the
    layers that the rule chose. The best window is the best of many on these very pairs, so that its
    gain is too large.
    """
    results = load_results(data, "sweep", "layers")
    options: dict[str, Any] = {"sharex": "col", "height_ratios": (1.5, 1)}
    n_columns = len(results)
    axes = layout.axes(4.3, 2, n_columns, by_column=True, **options)
    numbers = []
    sources = []
    for column, (sweep, layer_set) in enumerate(results):
        above, _ = plot_sweep(sweep, layer_set, axes[column::n_columns])
        above.set_title(sweep.model.name, fontsize=9)
        above.legend(loc="lower right", frameon=False, borderpad=0.2)
        numbers.append(_best_window_in_words(sweep))
        sources.append(source(sweep, _pairs(sweep)))
    return Drawn(root_figure(axes), " ".join(numbers), sources)


def _best_window_in_words(sweep: Sweep) -> str:
    """The quality without re-routing, and that of the best window."""
    best = max(sweep.windows, key=lambda window: window.spearman)
    interval = f"{best.low:.1f} to {best.high:.1f}"
    window = f"{phrase(best.layers)}, bias {best.bias:g}"
    plain = f"{sweep.model.name}: {sweep.plain:.1f} without"
    return f"{plain}; best {best.spearman:.1f} ({interval}), {window}."


def _pairs(sweep: Sweep) -> str:
    pairs = f"n = {sweep.n_pairs} pairs of {sweep.data}"
    return f"{pairs}, prompt {sweep.prompt.name}, {sweep.pooling} pooling"


def readout(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Above: quality when a method is read after each block, after the final norm and before it,
    with bootstrap 95 % bands; dashed, grey: read after the last block and the norm, as by default.
    Below: intrinsic dimension ± 1.96 standard errors. The best block is the best of many on these
    very pairs, so that its gain is too large.
    """
    results = load_results(data, "readout", "layers")
    options: dict[str, Any] = {"sharex": "col", "height_ratios": (1.5, 1)}
    n_columns = len(results)
    axes = layout.axes(4.3, 2, n_columns, by_column=True, width=3.6 * n_columns, **options)
    numbers = []
    sources = []
    for column, (swept, layer_set) in enumerate(results):
        above, _ = plot_readout(swept, layer_set.profile, axes[column::n_columns])
        above.set_title(swept.model.name, fontsize=9)
        numbers.append(_best_block_in_words(swept))
        sources.append(source(swept, f"n = {swept.n_pairs} pairs of {swept.data}, {swept.method}"))
    figure_legend(axes[0], "lower", min(3, layout.legend_columns))
    return Drawn(root_figure(axes), " ".join(numbers), sources)


def _best_block_in_words(swept: ReadoutSweep) -> str:
    """The quality that is read by default, and that after the best block."""
    best = swept.best
    norm = "after" if best.final_norm else "before"
    gain = f"{best.difference:+.1f} ({best.difference_low:.1f} to {best.difference_high:.1f})"
    default = f"{swept.model.name}: {swept.last.spearman:.1f} by default"
    place = f"after block {best.block}, {norm} the final norm"
    return f"{default}; best {best.spearman:.1f} {place}, {gain}."


def regret(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Does low intrinsic dimension (ID) find the best layers? Left: by how much the best window of
    the sweep beats the layers that each rule chooses from the ID of some states (hidden, keys,
    values) at some points (final token, mean over tokens, all tokens); the last rows look at none.
    Right: Spearman correlation, over all windows, of -ID and quality. Bars: 95 % intervals.
    """
    results = load_all(data, "study")
    n_rows = sum(_n_rows(study) for study in results)
    height = 0.17 * n_rows + 0.7 * len(results) + 0.5
    options: dict[str, Any] = {"sharey": "row", "width_ratios": (1.4, 1)}
    axes = layout.axes(height, len(results), 2, **options)
    sources = []
    for study, left, right in zip(results, axes[::2], axes[1::2], strict=True):
        plot_study(study, (left, right))
        left.set_title(study.model.name, fontsize=9, loc="left")
        pairs = f"n = {study.n_pairs} pairs of {study.data}"
        sources.append(f"{source(study, pairs)}\n\n```\n{study}\n```")
    return Drawn(root_figure(axes), "", sources)


def _n_rows(study: LayerStudy) -> int:
    """How many rows `plot_study` draws: rules on kinds of states, and what looks at none."""
    return len({(o.states, o.points, o.rule) for o in study.outcomes if o.rule != "best"})
