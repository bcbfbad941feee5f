"""Scores as a table: methods by tasks, or by post-processings, the best mean on top."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean

from kvlens.evaluation.score import CARRIED, Score
from kvlens.evaluation.scores import Scores

POST = (None, "zscore", "whiten")  # the order inside a cell
Cell = dict[str | None, Score]


def score_table(scores: Scores, corner: str) -> str:
    """One model's scores; a cell has its post-processings, + / - beside the reference, in bold.

    What was carried over is marked; a task of which all was, by its name.

    Args:
        scores: of every method, task and post-processing.
        corner: what stands above the methods.

    Returns:
        Markdown.
    """
    tasks, kinds = _tasks(scores), _kinds(scores)
    rows = sorted(_rows(scores).items(), key=lambda row: -_best(row[1], tasks, kinds))
    several = len(tasks) > 1
    carried = {task for task in tasks if _is_carried(scores, task)}
    named = [f"{task}{CARRIED}" if task in carried else task for task in tasks]
    header = [corner, *named, *(["mean"] if several else [])]
    bold = {scores.reference: f"**{scores.reference}**"}
    lines = [[bold.get(label, label), *_row(cells, tasks, kinds, carried)] for label, cells in rows]
    return table(header, lines)


def best_mean(scores: Scores, label: str) -> float:
    """A method's mean over the tasks at its best post-processing.

    Args:
        scores: of one model.
        label: of the method.

    Raises:
        LookupError: every post-processing lacks a task.
    """
    means = _means(_rows(scores)[label], _tasks(scores), _kinds(scores))
    whole = [mean for mean in means if mean is not None]
    if not whole:
        raise LookupError(f"no mean of {label!r}: a task is missing")
    return max(whole)


def post_table(scores: Scores, corner: str) -> str:
    """One model's methods by post-processings; a cell has the tasks, + / - beside none at all.

    Args:
        scores: of every method, task and post-processing.
        corner: what stands above the methods.

    Returns:
        Markdown; the best mean over tasks stands on top.
    """
    tasks = _tasks(scores)
    kinds = list(dict.fromkeys(entry.post for entry in scores.scores))
    rows = sorted(_rows(scores).items(), key=lambda row: -_best(row[1], tasks, kinds))
    header = [corner, *(kind or "none" for kind in kinds)]
    lines = [[label, *(_by_task(cells, tasks, kind) for kind in kinds)] for label, cells in rows]
    return table(header, lines)


def _tasks(scores: Scores) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(entry.task for entry in scores.scores))


def _kinds(scores: Scores) -> list[str | None]:
    """The post-processings of a cell, in their order."""
    return [kind for kind in POST if any(entry.post == kind for entry in scores.scores)]


def _by_task(cells: dict[str, Cell], tasks: Sequence[str], kind: str | None) -> str:
    """One post-processing's scores on the tasks."""
    found = [cells[task].get(kind) for task in tasks]
    return " / ".join(f"{entry.value:.1f}{entry.post_sign}" if entry else "" for entry in found)


def _rows(scores: Scores) -> dict[str, dict[str, Cell]]:
    """The scores by method, task and post-processing."""
    rows: dict[str, dict[str, Cell]] = {}
    for entry in scores.scores:
        row = rows.setdefault(entry.method_label, {})
        row.setdefault(entry.task, {})[entry.post] = entry
    return rows


def _means(
    cells: dict[str, Cell], tasks: Sequence[str], kinds: Sequence[str | None]
) -> list[float | None]:
    """The mean over tasks of each post-processing; None where a task is missing."""
    means = []
    for kind in kinds:
        values = [cells[task][kind].value for task in tasks if kind in cells.get(task, {})]
        means.append(fmean(values) if len(values) == len(tasks) else None)
    return means


def _best(cells: dict[str, Cell], tasks: Sequence[str], kinds: Sequence[str | None]) -> float:
    return max(value or 0.0 for value in _means(cells, tasks, kinds))


def _row(
    cells: dict[str, Cell],
    tasks: Sequence[str],
    kinds: Sequence[str | None],
    carried: Collection[str],
) -> list[str]:
    values = [_cell(cells.get(task, {}), kinds, task in carried) for task in tasks]
    if len(tasks) == 1:
        return values
    means = ["" if value is None else f"{value:.1f}" for value in _means(cells, tasks, kinds)]
    return [*values, " / ".join(means) if any(means) else ""]


def _cell(cell: Cell, kinds: Sequence[str | None], is_marked: bool) -> str:
    """The values of a task; its own mark says that all of them were carried over."""
    values = [_value(cell[kind], is_marked) if kind in cell else "" for kind in kinds]
    return " / ".join(values) if any(values) else ""


def _value(entry: Score, is_marked: bool) -> str:
    return f"{entry.value:.1f}{entry.sign}{'' if is_marked else entry.age}"


def _is_carried(scores: Scores, task: str) -> bool:
    return all(entry.measured for entry in scores.scores if entry.task == task)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
