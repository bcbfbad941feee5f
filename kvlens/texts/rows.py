"""Rows: one reader of table files, by their extension: .txt, .jsonl, .csv, .tsv, .parquet.

With a further ``.gz`` a file is unzipped; ``-`` is standard input. Every row knows its place in
words, for messages. What a row means is left to others: `readers` makes texts, `pairs` pairs.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kvlens.store.errors import InputError, one_line

TEXT_COLUMN = "text"
STANDARD_INPUT = "-"
PARQUET_BATCH = 1024  # rows read at a time
LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is 131,072


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
        """The columns to read of a table that has `names`; raises InputError for one absent."""
        absent = self.absent(names)
        if absent:
            raise InputError(f"no column {absent[0]!r}; it has: {quoted(names)}")
        present = [column for column in self.optional if column in names]
        return list(dict.fromkeys([*self.required, *present]))

    def absent(self, names: Iterable[str]) -> list[str]:
        """The required columns that are not among `names`."""
        return [column for column in self.required if column not in names]


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
        path = Path(path)
        if str(path) == STANDARD_INPUT:
            return cls(path, ".jsonl" if named else ".txt")
        if path.is_dir():
            raise InputError(f"{path} is a directory; give a file")
        if not path.is_file():
            raise InputError(f"no such file: {path}")
        kind = Path(path.name.lower().removesuffix(".gz")).suffix
        if kind not in READERS:
            known = ", ".join(READERS)
            raise InputError(f"{path} is none of {known} (or those with .gz); rename or convert it")
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
            with self._open() as file:
                yield from READERS[self.kind](file, columns)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise InputError(f"cannot read {self.name}: {reason}") from None

    def _open(self) -> AbstractContextManager[Any]:
        if self.is_standard_input:
            return nullcontext(sys.stdin.buffer)
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rb")
        return open(self.path, "rb")


def read_rows(
    path: str | Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Row]:
    """The rows of a table file with named columns.

    Args:
        path: .jsonl, .csv, .tsv or .parquet, perhaps with .gz.
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
    """Names of columns for a message."""
    return ", ".join(repr(name) for name in names)


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line, without a byte order mark."""
    for number, line in enumerate(file, 1):
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError as error:
            raise InputError(
                f"line {number} is not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from None


def _txt_rows(file: Iterable[bytes], columns: Columns) -> Iterator[Row]:
    for number, line in _lines(file):
        if line.strip():
            yield Row(f"line {number}", number - 1, {TEXT_COLUMN: line.rstrip("\r\n")})


def _jsonl_rows(file: Iterable[bytes], columns: Columns) -> Iterator[Row]:
    for number, line in _lines(file):
        if line.strip():
            yield _json_row(line.rstrip("\r\n"), number, columns)


def _json_row(line: str, number: int, columns: Columns) -> Row:
    row = partial(Row, f"line {number}", number - 1)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return row(None, f"is not valid JSON ({getattr(error, 'msg', error)})")
    if not isinstance(fields, dict):
        return row(None, "is not a JSON object")
    absent = columns.absent(fields)
    if absent:
        return row(fields, f"has no field {absent[0]!r}; it has: {quoted(fields)}")
    return row(fields)


def _csv_rows(file: Iterable[bytes], columns: Columns, delimiter: str = ",") -> Iterator[Row]:
    # Not by pyarrow: it counts rows, not lines, and takes a quote left open for a text.
    csv.field_size_limit(LONGEST_FIELD)
    lines = (line for _, line in _lines(file))
    # Strict, since a quote left open would otherwise swallow the rest of the file in silence.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(file)
        names = columns.among(table.schema_arrow.names)
        for batch in table.iter_batches(PARQUET_BATCH, columns=names):
            for fields in batch.to_pylist():
                yield Row(f"row {number + 1}", number, fields)
                number += 1
    except pa.ArrowException as error:
        raise InputError(f"not a readable Parquet file ({one_line(error)})") from None


READERS: dict[str, Callable[[Any, Columns], Iterator[Row]]] = {
    ".txt": _txt_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".parquet": _parquet_rows,
}
