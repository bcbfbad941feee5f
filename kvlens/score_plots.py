"""Pictures of quality: pure functions, scores or a layer sweep -> matplotlib Axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.evaluate import Scores
from kvlens.layers import LayerSet
from kvlens.plots import BAND, COLOURS, MARKERS, SHADE, WORDS, new_axes, styled
from kvlens.records import runs
from kvlens.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def plot_scores(results: Sequence[Scores], axes: Sequence[Axes] | None = None, width: float = 6.9) -> list[Axes]:
    """Bars of scores with their intervals, one panel a task, one colour a model, the best mean on top; dotted:
    kv_embedding. axes: one per task; by default a new figure, `width` inches wide, with the models' legend."""
    cells = {(r.model.name, s.task, s.label): s for r in results for s in r.scores}
    tasks = list(dict.fromkeys(task for _, task, _ in cells))
    means = {label: np.mean([s.value for s in cells.values() if s.label == label]) for _, _, label in cells}
    labels = sorted(means, key=lambda label: -means[label])
    own = list(axes or new_axes(width, 0.22 * len(labels) + 1.2, columns=len(tasks), sharey=True))
    for ax, task in zip(own, tasks, strict=True):
        for i, r in enumerate(results):
            found = {y: cells[key] for y, label in enumerate(labels) if (key := (r.model.name, task, label)) in cells}
            value, low, high = np.array([(s.value, s.low, s.high) for s in found.values()]).reshape(-1, 3).T
            height = 0.8 / len(results)
            y = np.array([*found]) + height * (i - (len(results) - 1) / 2)
            looks: dict[str, Any] = {"color": COLOURS[i], "alpha": 0.75, "error_kw": {"lw": 1, "ecolor": "0.15"}}
            ax.barh(y, value, height, xerr=(value - low, high - value), label=r.model.name, **looks)
            if reference := cells.get((r.model.name, task, "kv_embedding")):
                ax.axvline(reference.value, color=COLOURS[i], lw=1, ls=":")
        metric = next(s.metric for s in cells.values() if s.task == task).replace("cosine_spearman", "Spearman")
        ax.set_title(re.sub(r"(?<=[a-z\d])(?=[A-Z][a-z])", "\n", task), fontsize=8)
        ax.set_xlabel(f"{metric.replace('_', ' ')} × 100", fontsize=8)
        ax.grid(axis="x", color="0.92", lw=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    own[0].set_yticks(range(len(labels)), labels, fontsize=7)
    own[0].set_ylim(len(labels) - 0.4, -0.6)
    for text in own[0].get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == "kv_embedding" else "normal")
    if axes is None:
        figure: Any = own[0].figure
        figure.legend(*own[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return own


@styled
def plot_sweep(
    sweep: Sweep, layer_set: LayerSet, axes: Sequence[Axes] | None = None, width: float = 3.3
) -> list[Axes]:
    """Quality against the middle of the re-routed window, a line for each width and bias, with bootstrap 95 % bands;
    grey: without re-routing; below it the ID curve with its 95 % band; shaded: the chosen layers.

    axes: two that share x; by default a new figure, `width` inches wide, with a legend.
    """
    own = list(axes or new_axes(width, 4.5, 2, 1, sharex=True, height_ratios=(1.5, 1)))
    top, bottom = own
    top.axhspan(sweep.plain_low, sweep.plain_high, color="0.6", alpha=0.35, lw=0)
    top.axhline(sweep.plain, color="0.3", lw=1, ls="--", label="no re-routing")
    for i, (width_, bias) in enumerate(sorted({(w.width, w.bias) for w in sweep.windows})):
        group = sorted((w for w in sweep.windows if (w.width, w.bias) == (width_, bias)), key=lambda w: w.first)
        x, colour = [w.first + (w.width - 1) / 2 for w in group], COLOURS[i % len(COLOURS)]
        name, mark = f"{width_} layer{'s' * (width_ > 1)}, bias {bias:g}", MARKERS[i % len(MARKERS)][0]
        top.plot(x, [w.spearman for w in group], color=colour, marker=mark, ms=3, lw=1.2, label=name)
        top.fill_between(x, [w.low for w in group], [w.high for w in group], color=colour, alpha=0.12, lw=0)
    estimator, estimates = next(iter(layer_set.profile.estimates.items()))
    at, value, error = np.array([(e.layer, e.value, BAND * e.stderr) for e in estimates]).T
    bottom.plot(at, value, color="black", marker="o", ms=2.5, lw=1.2)
    bottom.fill_between(at, value - error, value + error, color="black", alpha=0.15, lw=0)
    for ax in own:
        for first, last in runs(layer_set.layers):
            ax.axvspan(first - 0.5, last + 0.5, color=SHADE, alpha=0.45, lw=0, zorder=0)
        ax.grid(axis="y", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
    top.set(ylabel="Spearman × 100", xlim=(-0.7, sweep.model.n_layers - 0.3))
    bottom.set(xlabel="layer (a window's middle)", ylabel=f"ID ({WORDS.get(estimator, estimator)})", ylim=(0, None))
    if axes is None:
        figure: Any = top.figure
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return own
