"""The quality of methods: scores by task, and retrieval by the length of documents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.score import Score
from kvlens.evaluation.scores import Scores
from kvlens.plots.parts import (
    figure_legend,
    grid,
    horizontal_bars,
    is_leftmost,
    stripe_rows,
    vertical_bars,
)
from kvlens.plots.style import COLOURS, MARKERS, Look, axes_or_new, styled
from kvlens.plots.words import NO_POST, metric_name, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERS = 30  # of a method's label in a line


@dataclass(frozen=True)
class _Table:
    """Scores by task, method and post-processing.

    Attributes:
        cells: (task, method, post) -> score; some may be missing.
        tasks: in order of appearance.
        posts: in order of appearance.
        methods: the best one first, by its leads over the median method of each task with the
            first post-processing; where it was not measured, it counts as that one.
    """

    cells: dict[tuple[str, str, str | None], Score]
    tasks: tuple[str, ...]
    posts: tuple[str | None, ...]
    methods: tuple[str, ...]

    @classmethod
    def of(cls, scores: Sequence[Score]) -> _Table:
        """The table of these scores."""
        cells = {(score.task, score.method_label, score.post): score for score in scores}
        tasks = tuple(dict.fromkeys(score.task for score in scores))
        posts = tuple(dict.fromkeys(score.post for score in scores))
        names = dict.fromkeys(score.method_label for score in scores)
        unsorted = cls(cells, tasks, posts, tuple(names))
        return cls(cells, tasks, posts, tuple(unsorted._by_lead()))

    def _by_lead(self) -> list[str]:
        """The methods, the largest sum of leads first; of a whole table, the best mean."""
        leads = dict.fromkeys(self.methods, 0.0)
        for task in self.tasks:
            scores = self.rows(task, self.posts[0])
            middle = np.median([score.value for score in scores.values()] or [0.0])
            for row, score in scores.items():
                leads[self.methods[row]] += score.value - middle
        return sorted(leads, key=lambda method: -leads[method])

    @property
    def size(self) -> int:
        """How many methods there are."""
        return len(self.methods)

    def rows(self, task: str, post: str | None) -> dict[int, Score]:
        """The scores that there are, by the row of their method."""
        scores = {}
        for row, method in enumerate(self.methods):
            score = self.cells.get((task, method, post))
            if score:
                scores[row] = score
        return scores


@styled
def plot_scores(
    result: Scores, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Scores of one model with their intervals.

    A panel a task, a row a method, a colour and mark a post-processing. The best one without
    post-processing is on top, by its leads over each task's median method; dotted: the reference
    without; hollow: carried over from an earlier table.

    Args:
        result: the scores of one model.
        axes: one per task; by default a new figure with a legend.
        width: of a new figure, in inches.

    Returns:
        The axes.
    """
    table = _Table.of(result.scores)
    height = 0.22 * table.size + 1.2
    panels = axes_or_new(axes, width, height, columns=len(table.tasks), sharey=True)
    first = panels[0]
    for ax, task in zip(panels, table.tasks, strict=True):
        _draw_task(ax, table, task)
        _reference_line(ax, table, task, result.reference)
        _task_axis(ax, table, task)
        _method_axis(ax, table)
        ax.tick_params(axis="y", length=0, labelleft=ax is first or is_leftmost(ax))
        labels = ax.get_yticklabels()  # none where the axis is shared
        for label, method in zip(labels, table.methods, strict=False):
            label.set_fontweight("bold" if method == result.reference else "normal")
    if axes is None and len(table.posts) > 1:
        figure_legend(first, "upper")
    return panels


@styled
def plot_lengths(
    result: Scores, post: str | None = None, ax: Axes | None = None, width: float = 3.4
) -> Axes:
    """Retrieval against the length of the documents, with one post-processing.

    A line a method, bootstrap 95 % bars; black: kv_embedding.

    Args:
        result: scores on tasks ``NAME@TOKENS``.
        post: the post-processing, or None.
        ax: where to draw; by default a new figure with a legend.
        width: of a new figure, in inches.

    Returns:
        The axes.
    """
    (panel,) = axes_or_new(ax, width, 3.2)
    lengths = sorted({_length(score) for score in result.scores})
    methods = list(dict.fromkeys(score.method_label for score in result.scores))
    for i, method in enumerate(methods):
        scores = [s for s in result.scores if (s.method_label, s.post) == (method, post)]
        scores.sort(key=_length)
        # Side by side, so that the bars can be told apart.
        aside = 0.04 * (i - len(methods) / 2)
        x = np.array([lengths.index(_length(score)) for score in scores]) + aside
        vertical_bars(panel, x, scores, label=method, **_line_of(i, method))
    panel.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    panel.set_xlabel("tokens of a document")
    panel.set_ylabel(metric_name(result.scores[0].metric))
    panel.set_ylim(0, None)
    panel.set_title(post or NO_POST, fontsize=8)
    grid(panel)
    if ax is None:
        panel.legend(frameon=False, fontsize=7)
    return panel


def _length(score: Score) -> int:
    """The tokens of a document in a task ``NAME@TOKENS``."""
    return int(score.task.rpartition("@")[2])


def _line_of(i: int, method: str) -> dict[str, Any]:
    """The look of method i: kv_embedding is black, the others have a colour."""
    mark = {"marker": MARKERS[i % len(MARKERS)][0], "ms": 3.5, "elinewidth": 0.8}
    if method == REFERENCE:
        return {**mark, "color": "black", "lw": 2}
    return {**mark, "color": COLOURS[i % 6], "lw": 1.2}  # all but black


def _draw_task(ax: Axes, table: _Table, task: str) -> None:
    """The scores on one task, post-processings below one another in a method's row."""
    for i, post in enumerate(table.posts):
        rows = table.rows(task, post)
        aside = 0.24 * (i - (len(table.posts) - 1) / 2)
        look = {"label": post or NO_POST, "ms": 3.5, "lw": 1, **Look.of(i).mark}
        fresh = {row: score for row, score in rows.items() if not score.measured}
        carried = {row: score for row, score in rows.items() if score.measured}
        horizontal_bars(ax, np.array([*fresh]) + aside, [*fresh.values()], **look)
        if carried:
            look |= {"label": None, "mfc": "white"}
            horizontal_bars(ax, np.array([*carried]) + aside, [*carried.values()], **look)


def _reference_line(ax: Axes, table: _Table, task: str, label: str) -> None:
    """The reference with the first post-processing, over the whole height."""
    reference = table.cells.get((task, label, table.posts[0]))
    if reference:
        ax.axvline(reference.value, color=COLOURS[0], lw=0.8, ls=":", zorder=0)


def _task_axis(ax: Axes, table: _Table, task: str) -> None:
    """The task's name above, folded between its words; its metric below."""
    metric = next(score.metric for key, score in table.cells.items() if key[0] == task)
    ax.set_title(re.sub(r"(?<=[a-z\d])(?=[A-Z][a-z])", "\n", task), fontsize=8)
    ax.set_xlabel(metric_name(metric), fontsize=7)
    ax.tick_params(axis="x", labelsize=7)
    grid(ax, "x")


def _method_axis(ax: Axes, table: _Table) -> None:
    """A row a method, every other one on a stripe."""
    for row in range(0, table.size, 2):
        stripe_rows(ax, row, row)
    names = ["\n".join(wrapped(name, LETTERS)) for name in table.methods]
    ax.set_yticks(range(table.size), names, fontsize=7, linespacing=0.9)
    ax.set_ylim(table.size - 0.5, -0.5)
