"""Text file: the texts of a file with their ids, one at a time, as often as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kvlens.store.errors import InputError, shortened
from kvlens.texts.columns import Columns, Row, quoted
from kvlens.texts.rows import TEXT_COLUMN, TableFile
from kvlens.texts.texts import id_problem, text_problem

ID_COLUMNS = ("id", "_id")


@dataclass(frozen=True)
class Entry:
    """A row as a text with an id, or why it is none.

    Attributes:
        place: where it stands, in words.
        text: of the row.
        id: of the row; its number where no column holds ids.
        is_numbered: whether the id is the row's number.
        problem: why it is none, as the rest of a sentence on it; empty when it is one.
    """

    place: str
    text: str = ""
    id: str = ""
    is_numbered: bool = False
    problem: str = ""


@runtime_checkable
class Entries(Protocol):
    """Texts that are read in their order, as often as they are asked for, and not kept."""

    @property
    def source(self) -> str:
        """Where they come from; it is saved with every result."""

    @property
    def name(self) -> str:
        """What they are called in messages."""

    def entries(self) -> Iterator[Entry]:
        """The rows in their order; those with a `problem` are left out by who reads them."""


@dataclass(frozen=True)
class TextFile:
    """Which texts are read of a file, and how.

    Attributes:
        file: the file.
        column: that holds the texts.
        ids: whether ids are read: False, True (``id``, ``_id`` or the row's number), or a column.
        skip_bad: give rows without a usable text with their `problem`, in place of raising.
        empty: take empty texts as they are.
    """

    file: TableFile
    column: str = TEXT_COLUMN
    ids: bool | str = False
    skip_bad: bool = False
    empty: bool = False

    @classmethod
    def at(
        cls,
        path: str | Path,
        column: str | None = None,
        ids: bool | str = False,
        skip_bad: bool = False,
        empty: bool = False,
    ) -> TextFile:
        """The texts of the file at a path, before anything is read; raises as `TableFile.at`."""
        named = column or (ids if isinstance(ids, str) else None)
        file = TableFile.at(path, named)
        of_address = file.hub.column if file.hub else None
        return cls(file, column or of_address or TEXT_COLUMN, ids, skip_bad, empty)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.file.name

    @property
    def comes_once(self) -> bool:
        """Whether it cannot be read again, or not cheaply."""
        return self.file.comes_once

    @property
    def source(self) -> str:
        """Where the texts come from, a local file without its folder; saved with every result.

        A name that is not UTF-8 can be opened, but not saved: its odd bytes are spelled out.
        """
        file = self.file
        name = file.path.name if not file.comes_once else file.name
        name = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return name if file.kind == ".txt" else f"{name}, column {self.column}"

    def entries(self) -> Iterator[Entry]:
        """The rows in their order, read as they are asked for.

        Yields:
            Texts, and, where bad rows are skipped, what has a `problem`.

        Raises:
            InputError: when the file or, unless they are skipped, a row of it cannot be used.
        """
        for entry in self._all_entries():
            if entry.problem and not self.skip_bad:
                problem = shortened(f"{self.name}: {entry.place} {entry.problem}", 220)
                raise InputError(f"{problem}; correct it, or skip such rows (`skip_bad=True`)")
            yield entry

    def _all_entries(self) -> Iterator[Entry]:
        columns = Columns((self.column,))
        id_column: str | None = ""  # empty: a row's number is its id; None: not known yet
        if isinstance(self.ids, str):
            columns = Columns((self.column, self.ids))
            id_column = self.ids
        elif self.ids:
            columns = Columns((self.column,), optional=ID_COLUMNS)
            id_column = None
        for row in self.file.rows(columns):
            if id_column is None and row.fields is not None:
                # The first object decides: a mixture of ids and row numbers would name nothing.
                id_column = _id_column(row.fields, self.column)
            yield self._entry(row, id_column or "")

    def _entry(self, row: Row, id_column: str) -> Entry:
        if row.problem or row.fields is None:
            return Entry(row.place, problem=row.problem)
        if id_column and id_column not in row.fields:
            problem = f"has no field {id_column!r}; it has: {quoted(row.fields)}"
            return Entry(row.place, problem=problem)
        text = row.fields[self.column]
        row_id = row.fields[id_column] if id_column else row.number
        problem = text_problem(text)
        if not problem and not self.empty and not text.strip():
            problem = "is empty"
        problem = problem or id_problem(row_id)
        if problem:
            return Entry(row.place, problem=problem)
        return Entry(row.place, text, str(row_id), not id_column)


def skipped_words(n: int) -> str:
    """What a source says of bad rows that were left out; empty where none was."""
    return f" ({n} bad rows skipped)" if n else ""


def _id_column(fields: Mapping[str, Any], column: str) -> str:
    """The column that holds the ids; empty when there is none."""
    return next((name for name in ID_COLUMNS if name in fields and name != column), "")
