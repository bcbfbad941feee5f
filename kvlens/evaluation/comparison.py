"""Comparison: the methods on one task against one of them, on the same bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.evaluation.scores import Score
from kvlens.evaluation.significance import Draws, holm, interval, p_value


@dataclass(frozen=True)
class Row:
    """A score, and the bootstrap draws of it (0 to 1).

    All rows of a task are drawn alike (see `significance.bootstrap`).
    """

    score: Score
    draws: Draws


def compared(rows: Sequence[Row], against: str) -> list[Score]:
    """The scores of one task, with their difference from a reference, its interval and p-value.

    Compared are rows of the same post-processing; Holm's adjustment is over these.

    Args:
        rows: of one task.
        against: the label of the reference, without post-processing.
    """
    scores = [row.score for row in rows]
    for reference in rows:
        if reference.score.method_label != against:
            continue
        others = [i for i, row in enumerate(rows) if _compares(row, reference)]
        differences = [rows[i].draws - reference.draws for i in others]
        p_values = holm([p_value(drawn) for drawn in differences])
        for i, p, drawn in zip(others, p_values, differences, strict=True):
            low, high = interval(100 * drawn)
            changes = {
                "p": p,
                "difference": scores[i].value - reference.score.value,
                "difference_low": float(low),
                "difference_high": float(high),
            }
            scores[i] = scores[i].model_copy(update=changes)
    return scores


def _compares(row: Row, reference: Row) -> bool:
    return row is not reference and row.score.post == reference.score.post
