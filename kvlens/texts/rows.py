"""Rows: one reader of table files, by their extension: .txt, .jsonl, .csv, .tsv, .parquet.

With a further ``.gz`` or ``.zst`` a file is unzipped; ``-`` is standard input. Every row knows its
place in words, for messages. What a row means is left to others: `readers` makes texts, `pairs`
pairs.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from kvlens.store.arguments import path_argument
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.texts.contents import ZIPPED, lines, opened
from kvlens.texts.json_object import Repeating, json_object
from kvlens.texts.parquet import ParquetTable

TEXT_COLUMN = "text"
STANDARD_INPUT = "-"
LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is 131,072
NAMES_SHOWN = 8  # columns that a message lists


@dataclass(frozen=True)
class Row:
    """One row of a table file.

    Attributes:
        place: where it stands, in words, such as "line 3" (where it ends) or "row 7".
        number: its number from 0: of the line in .txt and .jsonl, of the row elsewhere.
        fields: column -> value, at least the columns asked for; None where it cannot be read.
        problem: why it cannot be used, as the rest of a sentence on the row; empty when it can.
    """

    place: str
    number: int
    fields: Mapping[str, Any] | None
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns are read.

    Attributes:
        required: without them a table is refused.
        optional: read where the table has them.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def among(self, names: Sequence[str]) -> list[str]:
        """The columns to read of a table that has `names`.

        Raises:
            InputError: for one that is absent, or there twice.
        """
        absent = self.absent(names)
        if absent:
            raise InputError(f"no column {absent[0]!r}; it has: {quoted(names)}")
        present = [column for column in self.optional if column in names]
        chosen = list(dict.fromkeys([*self.required, *present]))
        repeated = self.repeated(names)
        if repeated:
            raise InputError(f"two columns are called {repeated[0]!r}; rename one")
        return chosen

    def absent(self, names: Iterable[str]) -> list[str]:
        """The required columns that are not among `names`."""
        return [column for column in self.required if column not in names]

    def repeated(self, names: Sequence[str]) -> list[str]:
        """The columns that are more than once among `names`."""
        return [column for column in (*self.required, *self.optional) if names.count(column) > 1]


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        path: where it is; `STANDARD_INPUT` for standard input.
        kind: the extension that says how it is read.
    """

    path: Path
    kind: str

    @classmethod
    def at(cls, path: str | Path, named: str | None = None) -> TableFile:
        """The file at `path`, before anything is read of it.

        Args:
            path: the file, or "-".
            named: a column that the caller names, if any: it makes standard input .jsonl, which is
                .txt otherwise, and .txt files have none.

        Returns:
            The file.

        Raises:
            InputError: when there is none, or not of a kind that is read.
        """
        path = path_argument("path", path)
        if str(path) == STANDARD_INPUT:
            return cls(path, ".jsonl" if named else ".txt")
        _check_place(path)
        name = Path(path.name.lower())
        kind = (name.with_suffix("") if name.suffix in ZIPPED else name).suffix
        if kind not in READERS:
            known = f"{', '.join(READERS)} (or those with {', '.join(ZIPPED)})"
            raise InputError(f"{path} is none of {known}; rename or convert it")
        if kind == ".txt" and named:
            raise InputError(
                f"{path} has one text per line and no column {named!r}; leave the column out"
            )
        return cls(path, kind)

    @property
    def is_standard_input(self) -> bool:
        """Whether the rows come from standard input."""
        return str(self.path) == STANDARD_INPUT

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return "standard input" if self.is_standard_input else str(self.path)

    def rows(self, columns: Columns) -> Iterator[Row]:
        """The rows in their order, read as they are asked for.

        Args:
            columns: which are read; .txt has `TEXT_COLUMN` alone.

        Yields:
            Rows; what is wrong with a single one stands in its `problem`.

        Raises:
            InputError: with the file's name, for what is wrong with the whole.
        """
        try:
            with opened(self.path, self.is_standard_input) as file:
                yield from READERS[self.kind](file, columns)
        except InputError as error:
            raise InputError(shortened(f"{self.name}: {error}")) from None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise InputError(shortened(f"cannot read {self.name}: {reason}")) from None


def _check_place(path: Path) -> None:
    """Raise InputError unless a regular file is there."""
    try:
        is_file = path.is_file()
        is_there = path.exists()
        is_folder = path.is_dir()
    except OSError as error:
        name = shortened(str(path), 200)
        raise InputError(f"cannot read {name}: {error.strerror or error}") from None
    if is_folder:
        raise InputError(f"{path} is a directory; give a file")
    if is_there and not is_file:
        raise InputError(f"{path} is a pipe or a device; give a file, or - for standard input")
    if not is_file:
        raise InputError(f"no such file: {path}")


def read_rows(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Row]:
    """The rows of a table file with named columns.

    Args:
        path: .jsonl, .csv, .tsv or .parquet, perhaps with .gz or .zst.
        columns: which it must have.
        optional: which are read where it has them.

    Returns:
        An iterator over rows; what is wrong with a single one stands in its `problem`.

    Raises:
        InputError: with the file's name, for a file that cannot be read as such a table.
    """
    file = TableFile.at(path, named=columns[0])
    return file.rows(Columns(tuple(columns), tuple(optional)))


def quoted(names: Iterable[str]) -> str:
    """Names of columns for a message, the first few of many."""
    shown = [repr(shortened(name, 40)) for name in islice(names, NAMES_SHOWN + 1)]
    if len(shown) > NAMES_SHOWN:
        shown[NAMES_SHOWN] = "…"
    return ", ".join(shown)


def _txt_rows(file: Any, columns: Columns) -> Iterator[Row]:
    for number, line in lines(file):
        if line.strip():
            yield Row(f"line {number}", number - 1, {TEXT_COLUMN: line.rstrip("\r\n")})


def _jsonl_rows(file: Any, columns: Columns) -> Iterator[Row]:
    for number, line in lines(file):
        if line.strip():
            yield _json_row(line.rstrip("\r\n"), number, columns)


def _json_row(line: str, number: int, columns: Columns) -> Row:
    row = partial(Row, f"line {number}", number - 1)
    try:
        fields = json.loads(line, object_pairs_hook=json_object)
    except (ValueError, RecursionError) as error:
        return row(None, f"is not valid JSON ({getattr(error, 'msg', error)})")
    if not isinstance(fields, dict):
        return row(None, "is not a JSON object")
    absent = columns.absent(fields)
    if absent:
        return row(fields, f"has no field {absent[0]!r}; it has: {quoted(fields)}")
    repeated = columns.repeated(fields.names) if isinstance(fields, Repeating) else []
    if repeated:
        return row(None, f"has the field {repeated[0]!r} twice")
    return row(fields)


def _csv_rows(file: Any, columns: Columns, delimiter: str = ",") -> Iterator[Row]:
    # Not by pyarrow: it counts rows, not lines, and takes a quote left open for a text.
    csv.field_size_limit(LONGEST_FIELD)
    # Strict, since a quote left open would otherwise swallow the rest of the file in silence.
    reader = csv.reader((line for _, line in lines(file)), delimiter=delimiter, strict=True)
    try:
        rows = filter(None, reader)
        header = next(rows, None)
        if header is None:
            return
        index = {column: header.index(column) for column in columns.among(header)}
        for number, cells in enumerate(rows):
            place = f"line {reader.line_num}"
            if len(cells) != len(header):
                problem = f"has {len(cells)} fields, the header {len(header)}"
                yield Row(place, number, None, problem)
            else:
                fields = {column: cells[at] for column, at in index.items()}
                yield Row(place, number, fields)
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV ({error})") from None


def _parquet_rows(file: Any, columns: Columns) -> Iterator[Row]:
    table = ParquetTable(file)
    names = columns.among(table.names)
    for number, (cells, problem) in enumerate(table.rows(names)):
        yield Row(f"row {number + 1}", number, cells, problem)


READERS: dict[str, Callable[[Any, Columns], Iterator[Row]]] = {
    ".txt": _txt_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".parquet": _parquet_rows,
}
