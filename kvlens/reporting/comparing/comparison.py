"""Comparison: several runs' facts as one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvlens.reporting.comparing.facts import Fact, facts_of
from kvlens.reporting.run_folder import Run
from kvlens.store.errors import InputError
from kvlens.store.markdown import markdown_text

COLUMNS = ("part", "what", "run", "value", "low", "high", "words")


@dataclass(frozen=True)
class Row:
    """What every run says of one thing.

    Attributes:
        what: the thing.
        cells: one a run; None for a run that says nothing of it.
    """

    what: str
    cells: tuple[Fact | None, ...]

    @property
    def has_intervals(self) -> bool:
        """Whether two runs at least have a number with an interval here."""
        return sum(cell is not None and cell.low is not None for cell in self.cells) > 1


@dataclass(frozen=True)
class Part:
    """Rows that belong together, such as the scores on one task."""

    name: str
    rows: tuple[Row, ...]

    @property
    def drawn(self) -> tuple[Row, ...]:
        """The rows that a picture shows."""
        return tuple(row for row in self.rows if row.has_intervals)


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        names: what each is called: its model, or where these repeat, its folder.
        runs: the runs.
        parts: the table.
    """

    names: tuple[str, ...]
    runs: tuple[Run, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Comparison:
        """Read run folders.

        Args:
            folders: two at least, each with profile.json and layers.json.

        Returns:
            The comparison.

        Raises:
            InputError: for fewer folders, one that is given twice, and as `Run.read` does.
        """
        if len(folders) < 2:
            raise InputError("give two runs at least: one has nothing beside it")
        resolved = [folder.resolve() for folder in folders]
        if len(set(resolved)) < len(resolved):
            raise InputError("a run is given twice: give each once")
        runs = tuple(Run.read(folder) for folder in folders)
        return cls(_names(runs), runs, _parts([facts_of(run) for run in runs]))

    def csv(self) -> str:
        """A line a run and row, for a program."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for part in self.parts:
            for row in part.rows:
                for name, cell in zip(self.names, row.cells, strict=True):
                    if cell is not None:
                        numbers = [cell.value, cell.low, cell.high]
                        writer.writerow([part.name, row.what, name, *numbers, cell.words])
        return text.getvalue()

    def markdown(self) -> str:
        """A table a part, a column a run; words of models and users are no markup."""
        head = f"| | {' | '.join(map(markdown_text, self.names))} |"
        rule = f"| --- |{' --- |' * len(self.names)}"
        tables = []
        for part in self.parts:
            lines = [_line(row) for row in part.rows]
            tables.append("\n".join([f"## {markdown_text(part.name)}", "", head, rule, *lines]))
        return "\n\n".join(tables) + "\n"


def _line(row: Row) -> str:
    cells = [markdown_text(cell.words) if cell else "" for cell in row.cells]
    return f"| {markdown_text(row.what)} | {' | '.join(cells)} |"


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    """The models' names; those of the folders, or their paths, where these repeat."""
    for name in (
        lambda run: run.layers.model.name,
        lambda run: run.folder.resolve().name,
        lambda run: str(run.folder),
    ):
        names = tuple(name(run) for run in runs)
        if len(set(names)) == len(names):
            break
    return names


def _parts(facts: Sequence[Sequence[Fact]]) -> tuple[Part, ...]:
    """The rows of all runs, in order of appearance."""
    by_run = [{(fact.part, fact.what): fact for fact in of_run} for of_run in facts]
    keys = dict.fromkeys(key for of_run in by_run for key in of_run)
    parts: dict[str, list[Row]] = {}
    for part, what in keys:
        cells = tuple(of_run.get((part, what)) for of_run in by_run)
        parts.setdefault(part, []).append(Row(what, cells))
    return tuple(Part(name, tuple(rows)) for name, rows in parts.items())
