"""Figures of the quality of methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from kvlens.evaluation.score import CARRIED, Score, days_of_carried
from kvlens.evaluation.scores import Scores
from kvlens.plots.parts import figure_legend
from kvlens.plots.scores import plot_lengths, plot_scores
from kvlens.plots.words import NO_POST
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, source


def methods(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Scores of every method on every task with bootstrap 95 % intervals, without post-processing
    and with it, fitted on Wikipedia passages; the best without it on top; dotted: kv_embedding
    without it. In the tables + / -: better / worse than kv_embedding with the same post-processing,
    p < 0.05 (two-sided paired bootstrap, Holm over the rows of a task and post-processing).
    """
    results, sources = _joined(data, "scores", "retrieval")
    height = 0.9 + 0.19 * max(len(_methods(table)) for table in results)
    rows = layout.model_rows(results, max(len(_tasks(table)) for table in results), height)
    for table, axes in zip(results, rows, strict=True):
        n_tasks = len(_tasks(table))
        plot_scores(table, axes[:n_tasks])
        for ax in axes[n_tasks:]:
            ax.remove()
    fullest = max((axes[0] for axes in rows), key=_n_labels)
    if _n_labels(fullest) > 1:
        figure_legend(fullest, "lower", layout.legend_columns)
    scores = [score for table in results for score in table.scores]
    return Drawn(root_figure(rows[0]), " ".join(_cautions(scores)), sources)


def _cautions(scores: Sequence[Score]) -> Iterator[str]:
    """What else a reader has to know of the scores."""
    if any(score.limited for score in scores):
        yield "Not comparable with published values: made on a part of the tasks."
    if days := days_of_carried(scores):
        yield f"Hollow, and {CARRIED} in the tables: carried over, measured on {days}."


def lengths(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Retrieval of Wikipedia articles by their opening paragraph, against how many tokens of the
    article are read; bars: bootstrap 95 % intervals over queries; black: kv_embedding.
    """
    results, sources = _joined(data, "lengths", "longest")
    posts = list(dict.fromkeys(score.post for table in results for score in table.scores))
    n_rows = len(posts)
    axes = layout.axes(2.5 * n_rows + 0.6, n_rows, len(results), sharey=True)
    for ax, (post, table) in zip(axes, product(posts, results), strict=True):
        plot_lengths(table, post, ax)
        ax.set_title(f"{table.model.name}, {post or NO_POST}", fontsize=9)
        if not layout.stacked:
            ax.label_outer()
    figure_legend(axes[0], "lower", layout.legend_columns)
    return Drawn(root_figure(axes), "", sources)


def _joined(data: Path, kind: str, more: str) -> tuple[list[Scores], list[str]]:
    """The score tables of a kind, each with those of a further kind where there are any.

    Also their sources, each with its table.
    """
    results = []
    sources = []
    for table in load_all(data, kind):
        parts = [table]
        parts += [Scores.load(path) for path in data.glob(f"{more}_{table.model.name}.json")]
        scores = tuple(score for part in parts for score in part.scores)
        results.append(table.model_copy(update={"scores": scores}))
        for part in parts:
            sources.append(f"{source(part, _units(part))}\n\n{part.table()}")
    return results, sources


def _tasks(table: Scores) -> list[str]:
    """The tasks in order of appearance."""
    return list(dict.fromkeys(score.task for score in table.scores))


def _methods(table: Scores) -> set[str]:
    """The methods, each once whatever its post-processing."""
    return {score.method_label for score in table.scores}


def _units(table: Scores) -> str:
    """Of each task the split, and how much of it was resampled."""
    units = [f"{score.task} {score.split}, n = {score.n} {score.unit}" for score in table.scores]
    return "; ".join(dict.fromkeys(units))


def _n_labels(ax: Any) -> int:
    """How many entries a legend of `ax` would have."""
    _, labels = ax.get_legend_handles_labels()
    return len(labels)
