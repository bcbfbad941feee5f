"""Pictures of quality: pure functions, scores or a layer sweep -> matplotlib Axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.style import BAND, COLOURS, MARKERS, SHADE, WORDS, new_axes, styled
from kvlens.store.layer_ranges import runs
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.regret import LayerStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@styled
def plot_scores(
    result: Scores, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Scores of one model with their intervals: a panel a task, a row a method, a colour and mark a post-processing.
    The best mean without post-processing, over the tasks that all methods have, is on top; dotted: kv_embedding
    without. axes: one per task; by default a new figure, `width` inches wide, with a legend."""
    rows = {(s.task, s.label.split(" + ")[0], s.post): s for s in result.scores}
    tasks = list(dict.fromkeys(s.task for s in result.scores))
    posts = list(dict.fromkeys(s.post for s in result.scores))
    names = list(dict.fromkeys(method for _, method, _ in rows))
    common = [
        task for task in tasks if all((task, name, posts[0]) in rows for name in names)
    ] or tasks
    means = {
        m: np.mean([rows[t, m, posts[0]].value for t in common if (t, m, posts[0]) in rows])
        for m in names
    }
    methods = sorted(means, key=lambda method: -means[method])
    own = list(axes or new_axes(width, 0.22 * len(methods) + 1.2, columns=len(tasks), sharey=True))
    for ax, task in zip(own, tasks, strict=True):
        for i, post in enumerate(posts):
            found = {
                y: rows[task, m, post] for y, m in enumerate(methods) if (task, m, post) in rows
            }
            value, low, high = (
                np.array([(s.value, s.low, s.high) for s in found.values()]).reshape(-1, 3).T
            )
            y = np.array([*found]) + 0.24 * (i - (len(posts) - 1) / 2)
            looks: dict[str, Any] = {"fmt": MARKERS[i][0], "color": COLOURS[i], "ms": 3.5, "lw": 1}
            ax.errorbar(
                value,
                y,
                xerr=(value - low, high - value),
                label=post or "no post-processing",
                **looks,
            )
            if (reference := rows.get((task, REFERENCE, post))) and i == 0:
                ax.axvline(reference.value, color=COLOURS[i], lw=0.8, ls=":", zorder=0)
        metric = (
            next(s.metric for s in result.scores if s.task == task)
            .replace("cosine_spearman", "Spearman")
            .replace("ndcg_at_", "NDCG@")
        )
        ax.set_title(re.sub(r"(?<=[a-z\d])(?=[A-Z][a-z])", "\n", task), fontsize=8)
        ax.set_xlabel(f"{metric.replace('_', ' ')} × 100", fontsize=7)
        ax.tick_params(axis="x", labelsize=7)
        ax.grid(axis="x", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        for at in range(0, len(methods), 2):
            ax.axhspan(at - 0.5, at + 0.5, color="0.96", lw=0, zorder=-1)
        ax.tick_params(axis="y", length=0, labelleft=ax is own[0])
        ax.set_yticks(range(len(methods)), methods, fontsize=7)
        ax.set_ylim(len(methods) - 0.5, -0.5)
    for text in own[0].get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == REFERENCE else "normal")
    if axes is None and len(posts) > 1:
        figure: Any = own[0].figure
        figure.legend(
            *own[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False
        )
    return own


@styled
def plot_lengths(
    result: Scores, post: str | None = None, ax: Axes | None = None, width: float = 3.4
) -> Axes:
    """Retrieval against the length of the documents (tasks ``NAME@TOKENS``), with one post-processing: a line a
    method, bootstrap 95 % bars; black: kv_embedding. ax: by default a new figure, `width` inches wide."""
    own = ax or new_axes(width, 3.2)[0]
    lengths = sorted({int(s.task.rpartition("@")[2]) for s in result.scores})
    labels = list(dict.fromkeys(s.label.split(" + ")[0] for s in result.scores))
    for i, label in enumerate(labels):
        found = [s for s in result.scores if (s.label.split(" + ")[0], s.post) == (label, post)]
        found.sort(key=lambda s: int(s.task.rpartition("@")[2]))
        # Side by side, so that the bars can be told apart.
        x = np.array([lengths.index(int(s.task.rpartition("@")[2])) for s in found]) + 0.04 * (
            i - len(labels) / 2
        )
        value, low, high = np.array([(s.value, s.low, s.high) for s in found]).T
        bold = (
            {"color": "black", "lw": 2}
            if label == REFERENCE
            else {"color": COLOURS[i % 6], "lw": 1.2}
        )
        looks: dict[str, Any] = {
            "marker": MARKERS[i % len(MARKERS)][0],
            "ms": 3.5,
            "elinewidth": 0.8,
            **bold,
        }
        own.errorbar(x, value, (value - low, high - value), label=label, **looks)
    own.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    metric = result.scores[0].metric.replace("ndcg_at_", "NDCG@")
    own.set(xlabel="tokens of a document", ylabel=f"{metric} × 100", ylim=(0, None))
    own.set_title(post or "no post-processing", fontsize=8)
    own.grid(axis="y", color="0.9", lw=0.6)
    own.set_axisbelow(True)
    if ax is None:
        own.legend(frameon=False, fontsize=7)
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
        group = sorted(
            (w for w in sweep.windows if (w.width, w.bias) == (width_, bias)), key=lambda w: w.first
        )
        x, colour = [w.first + (w.width - 1) / 2 for w in group], COLOURS[i % len(COLOURS)]
        name, mark = (
            f"{width_} layer{'s' * (width_ > 1)}, bias {bias:g}",
            MARKERS[i % len(MARKERS)][0],
        )
        top.plot(
            x, [w.spearman for w in group], color=colour, marker=mark, ms=3, lw=1.2, label=name
        )
        top.fill_between(
            x, [w.low for w in group], [w.high for w in group], color=colour, alpha=0.12, lw=0
        )
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
    bottom.set(
        xlabel="layer (a window's middle)",
        ylabel=f"ID ({WORDS.get(estimator, estimator)})",
        ylim=(0, None),
    )
    if axes is None:
        figure: Any = top.figure
        figure.legend(
            *top.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
        )
    return own


@styled
def plot_study(
    study: LayerStudy, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """What the rules choose: regret against the best window, a row a rule on a kind of states; and how well low ID
    ranks the windows. A colour and mark a width and bias, with 95 % intervals.

    axes: two that share y; by default a new figure, `width` inches wide, with a legend.
    """
    rows = list(dict.fromkeys((o.states, o.points, o.rule) for o in study.outcomes if o.states))
    sources = list(dict.fromkeys(row[:2] for row in rows))
    place: dict[Any, int] = {row: i for i, row in enumerate(rows)}
    middle = {s: np.mean([i for row, i in place.items() if row[:2] == s]) for s in sources}
    own = list(
        axes or new_axes(width, 0.17 * len(rows) + 1.3, 1, 2, sharey=True, width_ratios=(1.4, 1))
    )
    kinds = sorted({(o.width, o.bias) for o in study.outcomes})
    for i, kind in enumerate(kinds):
        ours = [o for o in study.outcomes if o.states and (o.width, o.bias) == kind]
        chosen = [(place[o.states, o.points, o.rule], o.regret) for o in ours]
        told = [c for c in study.correlations if (c.width, c.bias) == kind]
        ranked = [(middle[c.states, c.points], c.rho) for c in told]
        looks: dict[str, Any] = {"fmt": MARKERS[i][0], "color": COLOURS[i], "ms": 3.5, "lw": 0.9}
        both: list[tuple[Axes, list[Any], float]] = [(own[0], chosen, 0.19), (own[1], ranked, 0.5)]
        for ax, found, step in both:
            value, low, high = (
                np.array([(x.value, x.low, x.high) for _, x in found]).reshape(-1, 3).T
            )
            y = np.array([at for at, _ in found]) + step * (i - (len(kinds) - 1) / 2)
            name = f"{kind[0]} layer{'s' * (kind[0] > 1)}, bias {kind[1]:g}"
            ax.errorbar(value, y, xerr=(value - low, high - value), label=name, **looks)
    for i, s in enumerate(sources):
        lines = [at for row, at in place.items() if row[:2] == s]
        for ax in own:
            ax.axhspan(
                min(lines) - 0.5,
                max(lines) + 0.5,
                color="0.96" if i % 2 == 0 else "1",
                lw=0,
                zorder=-1,
            )
    for ax in own:
        ax.axvline(0, color="0.3", lw=0.8, ls="--")
        ax.grid(axis="x", color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0, labelleft=ax is own[0])
    words = [f"{states}, {points}: {rule}" for states, points, rule in rows]
    own[0].set_yticks(range(len(rows)), words, fontsize=7)
    own[0].set(xlabel="best window - chosen layers (Spearman × 100)", ylim=(len(rows) - 0.5, -0.5))
    own[1].set(xlabel="rank correlation, -ID and quality", xlim=(-1, 1))
    for ax in own:
        ax.xaxis.label.set_fontsize(8)
    own[1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=7)
    return own
