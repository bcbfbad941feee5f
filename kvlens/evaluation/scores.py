"""Scores: a table of methods by tasks, with intervals; one JSON file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.score import CARRIED, SIGNIFICANT, Score, days_of_carried
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import Size
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of
from kvlens.store.markdown import markdown_code, markdown_text

if TYPE_CHECKING:
    import pandas as pd


class Scores(JsonArtifact):
    """A table of scores of one model. Saved as JSON and loads back equal.

    Attributes:
        model: The model.
        max_length: Most tokens of a text, prompt included.
        scores: One a method, post-processing and task.
        reference: The label of the method that the others are compared with.
        versions: Package -> version.
        command: The command line; empty where there was none.
    """

    what: ClassVar[str] = "a score table"
    again: ClassVar[str] = "run `kvlens evaluate` again"

    format: Literal["kvlens.scores"] = "kvlens.scores"
    version: Literal[1] = 1
    model: ModelInfo
    max_length: Size
    scores: tuple[Score, ...]
    reference: str = Field(default=REFERENCE, exclude_if=lambda label: label == REFERENCE)
    versions: dict[str, str]
    command: str

    def frame(self) -> pd.DataFrame:
        """A row a score, with the model, without the settings."""
        import pandas as pd

        fields = [name for name in Score.model_fields if name != "settings"]
        rows = [
            [self.model.name, self.max_length, *(getattr(score, name) for name in fields)]
            for score in self.scores
        ]
        columns = ["model", "max_length", *fields]
        # As objects, since a column of numbers would turn None into NaN.
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def csv(self) -> str:
        """`frame` as a CSV file."""
        return self.frame().to_csv(index=False, lineterminator="\n")

    def table(self) -> str:
        """Methods by tasks in Markdown, with intervals.

        A cell has + / - for what is better / worse than the reference.
        """
        return self._by_task(self.model.name, self.scores, lambda score: score.cell)

    def with_earlier(self, earlier: Scores, day: date) -> Scores:
        """This table, and beside it what it lacks of an earlier one.

        Args:
            earlier: Of the same model. Its scores keep their sign, which stands beside its own
                reference.
            day: When it was measured; what it had carried over keeps its own day.

        Returns:
            Both, with the command and the versions of this one.

        Raises:
            InputError: For another model, other lengths or another reference.
        """
        marked = tuple(
            score.model_copy(update={"measured": score.measured or day}) for score in earlier.scores
        )
        return self.joined(earlier.model_copy(update={"scores": marked}))

    def joined(self, other: Scores) -> Scores:
        """This table, and beside it what it lacks of another one, such as tasks run by themselves.

        Args:
            other: Of the same model.

        Returns:
            Both, with the command and the versions of this one.

        Raises:
            InputError: For another model, other lengths or another reference.
        """
        for name in ("max_length", "reference"):
            if getattr(self, name) != getattr(other, name):
                raise InputError(f"the other table has another {name}")
        if not self.model.same_weights(other.model):
            raise InputError(f"the other table is of {other.model.name}, with other weights")
        mine = {score.place for score in self.scores}
        lacking = (score for score in other.scores if score.place not in mine)
        return self.model_copy(update={"scores": (*self.scores, *lacking)})

    def _by_task(self, corner: str, scores: Sequence[Score], cell: Callable[[Score], str]) -> str:
        """Methods by tasks in Markdown, of these scores."""
        cells = {score.place: cell(score) for score in scores}
        tasks = list(dict.fromkeys(score.task for score in scores))
        labels = list(dict.fromkeys(score.label for score in scores))
        rows = [
            [markdown_text(label), *(cells.get((label, task), "") for task in tasks)]
            for label in labels
        ]
        header = [corner, *tasks]
        return _markdown_table([markdown_text(text) for text in header], rows)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        facts = {label: self._cells_of(label) for label in dict.fromkeys(self._labels())}
        title = f"scores x 100: {self.model.name}"
        return facts_html(title, facts, (), picture_of(self, "scores by method and task"))

    def _labels(self) -> list[str]:
        return [score.label for score in self.scores]

    def _cells_of(self, label: str) -> str:
        """A row's scores with their tasks, in a line."""
        rows = [score for score in self.scores if score.label == label]
        return "; ".join(f"{score.task} {score.cell}" for score in rows)

    def markdown(self) -> str:
        """`table`, what its numbers are, what post-processing adds, of retrieval the hubness."""
        lines = [self.table(), "", *self._notes(), *self._added_by_posts(), *self._hubness()]
        if self.command:
            lines.append(markdown_code(self.command))
        return "\n".join(lines) + "\n"

    def _notes(self) -> list[str]:
        sizes = {
            score.task: f"{score.task} {score.metric} ({score.split}, {score.n} {score.unit})"
            for score in self.scores
        }
        notes = [
            f"Scores x 100 by mteb: {markdown_text('; '.join(sizes.values()))}. "
            "Brackets: 95 % bootstrap interval over these.",
            f"+ / -: better / worse than {markdown_text(self.reference)} "
            f"with the same post-processing, p < {SIGNIFICANT} (two-sided paired bootstrap, "
            "Holm over the rows of a task and post-processing).",
            f"At most {self.max_length} tokens a text, prompt included.",
        ]
        if days := days_of_carried(self.scores):
            notes.append(f"{CARRIED}: carried over, measured on {days}.")
        if any(score.csls for score in self.scores):
            notes.append(
                "**Queries rank documents by CSLS: a ranking depends on the other queries, which "
                "no published value does.**"
            )
        if any(score.limited for score in self.scores):
            notes.insert(
                0, "**NOT COMPARABLE with published values: only a part of each task (`limit`).**"
            )
        return notes

    def _added_by_posts(self) -> list[str]:
        """Of other rows than `table` compares."""
        known = [score for score in self.scores if score.post_difference is not None]
        note = (
            "Post-processing adds: the difference from the same method without any, with its "
            f"paired 95 % interval. + / -: p < {SIGNIFICANT}, Holm over the post-processings of a "
            "method and task."
        )
        return self._further_table("Post-processing adds", known, lambda each: each.post_cell, note)

    def _hubness(self) -> list[str]:
        """Of what is no score."""
        known = [score for score in self.scores if score.hubness is not None]
        note = (
            "Hubness: skewness of how often a document is among the ten first of a query "
            "(Radovanovic et al. 2010); the larger, the fewer documents stand in most rankings."
        )
        return self._further_table("Hubness", known, lambda each: f"{each.hubness:.2f}", note)

    def _further_table(
        self, corner: str, scores: Sequence[Score], cell: Callable[[Score], str], note: str
    ) -> list[str]:
        """A table of its own with its note, where there is something to show."""
        return ["", self._by_task(corner, scores, cell), "", note] if scores else []

    def _repr_markdown_(self) -> str:
        return self.markdown()


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An aligned table. By hand: pandas writes Markdown only with a further package, tabulate."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    ruler = ["-" * width for width in widths]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, ruler, *rows)
    ]
    return "\n".join(f"| {line} |" for line in lines)
