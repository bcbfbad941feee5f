"""Scores: a table of methods by tasks, with intervals; one JSON file."""

from __future__ import annotations

import csv
import io
from typing import Any, ClassVar, Literal

from kvlens.embedding.spec import REFERENCE
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record


class Score(Record):
    """One method on one task.

    label: what a table shows, the method and what tells it from its other rows. post: center, zscore, whiten or None.
    settings: the method's. value: mteb's main score x 100; low, high: its bootstrap 95 % interval; n: how many of
    `unit` were resampled. difference: this minus kv_embedding with the same post-processing, x 100, and p, its
    two-sided paired bootstrap p-value, adjusted by Holm; None for kv_embedding and without it. limited: made with
    --limit, not comparable with published values.
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
    n: int
    unit: str
    p: float | None
    difference: float | None
    limited: bool


class Scores(JsonArtifact):
    """A table of scores of one model. Saved as JSON and loads back equal."""

    what: ClassVar[str] = "a score table"
    again: ClassVar[str] = "run `kvlens evaluate` again"

    format: Literal["kvlens.scores"] = "kvlens.scores"
    version: Literal[1] = 1
    model: ModelInfo
    max_length: int
    scores: tuple[Score, ...]
    versions: dict[str, str]
    command: str

    def csv(self) -> str:
        """One line a score, without the settings."""
        names = [name for name in Score.model_fields if name != "settings"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "max_length", *names])
        writer.writerows(
            [self.model.name, self.max_length, *(getattr(s, n) for n in names)] for s in self.scores
        )
        return text.getvalue()

    def table(self) -> str:
        """Methods by tasks in Markdown, with the interval and + / - for what is better / worse than kv_embedding."""
        cells = {(s.label, s.task): s for s in self.scores}
        tasks, labels = (list(dict.fromkeys(key[i] for key in cells)) for i in (1, 0))
        rows = [[self.model.name, *tasks], []]
        for label in labels:
            rows.append(
                [label.replace("|", "\\|"), *(_cell(cells.get((label, task))) for task in tasks)]
            )
        widths = [max(len(row[i]) for row in rows if row) for i in range(len(tasks) + 1)]
        rows[1] = ["-" * width for width in widths]
        return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)

    def __str__(self) -> str:
        return self.table()

    def markdown(self) -> str:
        """`table`; what the numbers are, below."""
        sizes = {s.task: f"{s.task} {s.metric} ({s.split}, {s.n} {s.unit})" for s in self.scores}
        notes = [
            f"Scores x 100 by mteb: {'; '.join(sizes.values())}. Brackets: 95 % bootstrap interval over these.",
            f"+ / -: better / worse than {REFERENCE} with the same post-processing, p < 0.05 (two-sided paired "
            "bootstrap, Holm over the rows of a task and post-processing).",
            f"At most {self.max_length} tokens a text, prompt included.",
        ]
        if any(s.limited for s in self.scores):
            notes.insert(
                0, "**NOT COMPARABLE with published values: only a part of each task (--limit).**"
            )
        return (
            "\n".join([self.table(), "", *notes, *([f"`{self.command}`"] if self.command else [])])
            + "\n"
        )

    def _repr_markdown_(self) -> str:
        return self.markdown()


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    mark = (
        " " if score.p is None or score.p >= 0.05 else "+" if (score.difference or 0) > 0 else "-"
    )
    return f"{score.value:.1f}{mark} ({score.low:.1f} to {score.high:.1f})"
