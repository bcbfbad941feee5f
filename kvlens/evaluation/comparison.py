"""Comparison: the rows of one task against some of them, on the same bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.evaluation.score import Score
from kvlens.evaluation.significance import Draws, holm, interval, p_value


@dataclass(frozen=True)
class Row:
    """A score, and the bootstrap draws of it (0 to 1).

    All rows of a task are drawn alike (see `significance.bootstrap`).
    """

    score: Score
    draws: Draws


def compared(rows: Sequence[Row], against: str) -> list[Score]:
    """The scores of one task, with their differences, the intervals and the p-values of these.

    Each is compared with the reference of the same post-processing, and with the same method
    without any; Holm's adjustment is over the rows that are compared with the same one.

    Args:
        rows: of one task.
        against: the label of the reference, without post-processing.
    """
    changes: list[dict[str, float]] = [{} for _ in rows]
    for i, other in enumerate(rows):
        if other.score.method_label == against:
            same_post = [j for j, row in enumerate(rows) if row.score.post == other.score.post]
            _note_differences(changes, "", rows, same_post, i)
        if other.score.post is None:
            name = other.score.method_label
            same_method = [j for j, row in enumerate(rows) if row.score.method_label == name]
            _note_differences(changes, "post_", rows, same_method, i)
    return [row.score.model_copy(update=found) for row, found in zip(rows, changes, strict=True)]


def _note_differences(
    changes: Sequence[dict[str, float]],
    prefix: str,
    rows: Sequence[Row],
    chosen: Sequence[int],
    against: int,
) -> None:
    """Put into `changes` how far the chosen rows are from one of them."""
    reference = rows[against]
    others = [i for i in chosen if i != against]
    drawn = [rows[i].draws - reference.draws for i in others]
    p_values = holm([p_value(each) for each in drawn])
    for i, each, p in zip(others, drawn, p_values, strict=True):
        low, high = interval(100 * each)
        changes[i] |= {
            f"{prefix}p": p,
            f"{prefix}difference": rows[i].score.value - reference.score.value,
            f"{prefix}difference_low": float(low),
            f"{prefix}difference_high": float(high),
        }
