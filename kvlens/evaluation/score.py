"""Score: one method on one task, with its interval and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any

from pydantic import Field

from kvlens.store.artifact import Record, later_field
from kvlens.store.bounds import Count, within

SIGNIFICANT = 0.05
CARRIED = "†"  # beside a score that was measured before the others


class Score(Record):
    """One method on one task.

    Attributes:
        method: The method's name.
        label: What a table shows: the method and what tells it from its other rows.
        post: The post-processing, one of `kvlens.embedding.post.KINDS`, or None.
        settings: The method's.
        task: The task's name.
        split: Its splits, joined by commas.
        metric: mteb's name of the main score.
        value: mteb's main score x 100.
        low: Lower end of its bootstrap 95 % interval.
        high: Upper end.
        n: How many of `unit` were resampled.
        unit: What an item is, such as "pairs".
        p: Of `difference`: two-sided, by paired bootstrap, adjusted by Holm. None for the table's
            reference and where that is missing.
        difference: This minus the reference with the same post-processing, x 100; None as `p`.
        difference_low: Lower end of its paired bootstrap 95 % interval, not adjusted for how many
            rows there are; None as `p`, and in files that were made before.
        difference_high: Upper end.
        post_p: As `p`, of `post_difference`; None without post-processing, in a table without the
            row that has none, and in files that were made before.
        post_difference: This minus the same method without post-processing, x 100; None as
            `post_p`.
        post_difference_low: Lower end of its interval, as `difference_low`.
        post_difference_high: Upper end.
        limited: Made with a `limit`, not comparable with published values.
        hubness: Of retrieval, the skewness of how often a document is among the ten first of a
            query (see `kvlens.evaluation.hubness`); None elsewhere, and where it is not known.
        csls: Whether documents were ranked by CSLS, which depends on the other queries and is not
            comparable with published values either.
        measured: The day, of a score that was carried over from an earlier table; None: with the
            table.
    """

    method: str
    label: str
    post: str | None
    settings: dict[str, Any]
    task: str
    split: str
    metric: str
    value: float
    low: float
    high: float
    n: Count
    unit: str
    p: Annotated[float, within(0, 1)] | None
    difference: float | None
    difference_low: float | None = later_field()
    difference_high: float | None = later_field()
    post_p: Annotated[float, within(0, 1)] | None = later_field()
    post_difference: float | None = later_field()
    post_difference_low: float | None = later_field()
    post_difference_high: float | None = later_field()
    limited: bool
    hubness: float | None = later_field()
    csls: bool = Field(default=False, exclude_if=lambda csls: not csls)
    measured: date | None = later_field()

    @property
    def method_label(self) -> str:
        """The label without its post-processing: rows of the same one compare post-processings."""
        return self.label.removesuffix(f" + {self.post}") if self.post else self.label

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in a table: its row and its column."""
        return self.label, self.task

    @property
    def cell(self) -> str:
        """The value with its interval, + / - where it differs from the reference, and its age."""
        value = f"{self.value:.1f}{self.sign or ' '}"
        return f"{value} ({self.low:.1f} to {self.high:.1f}){self.age}"

    @property
    def sign(self) -> str:
        """``+`` / ``-`` of what is better / worse than the reference, else nothing."""
        return _sign(self.difference, self.p)

    @property
    def post_sign(self) -> str:
        """``+`` / ``-`` of what is better / worse than without post-processing, else nothing."""
        return _sign(self.post_difference, self.post_p)

    @property
    def post_cell(self) -> str:
        """What post-processing adds, with its interval, + / - where that is more than chance."""
        added = f"{self.post_difference:+.1f}{self.post_sign or ' '}"
        return f"{added} ({self.post_difference_low:.1f} to {self.post_difference_high:.1f})"

    @property
    def age(self) -> str:
        """The mark of what was carried over, else nothing."""
        return CARRIED if self.measured else ""


def _sign(difference: float | None, p: float | None) -> str:
    if p is None or p >= SIGNIFICANT or not difference:
        return ""
    return "+" if difference > 0 else "-"


def days_of_carried(scores: Iterable[Score]) -> str:
    """When the carried ones of these scores were measured, such as "2026-11-22"; may be empty."""
    return ", ".join(sorted({str(score.measured) for score in scores if score.measured}))
