"""Rows: one reader of table files, by their extension: .txt, .jsonl, .csv, .tsv, .parquet.

With a further ``.gz`` or ``.zst`` a file is unzipped; ``-`` is standard input; an address such as
``s3://...`` is read where it is, ``hf://...`` is a data set. Every row knows its place in words,
for messages. What a row means is left to others: `readers` makes texts, `pairs` pairs.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kvlens.store.arguments import path_argument
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.texts.addresses import is_address, opened_address, public
from kvlens.texts.columns import Columns, Row, quoted
from kvlens.texts.contents import ZIPPED, lines, opened
from kvlens.texts.hub_table import HubTable
from kvlens.texts.json_object import Repeating, json_object
from kvlens.texts.parquet import ParquetTable

TEXT_COLUMN = "text"
STANDARD_INPUT = "-"
HUB = "hf://"  # the kind of a data set
LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is 131,072


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        path: where it is; `STANDARD_INPUT` for standard input; of no meaning for an address.
        kind: the extension that says how it is read.
        address: where it is when it is no local file, else empty.
        hub: the data set of an ``hf://`` address, which is no file.
    """

    path: Path
    kind: str
    address: str = ""
    hub: HubTable | None = None

    @classmethod
    def at(cls, path: str | Path, named: str | None = None) -> TableFile:
        """The file at `path`, before anything is read of it.

        Args:
            path: the file, "-", or an address; nothing is fetched yet.
            named: a column that the caller names, if any: it makes standard input .jsonl, which is
                .txt otherwise, and .txt files have none.

        Returns:
            The file.

        Raises:
            InputError: when there is none, or not of a kind that is read.
        """
        if isinstance(path, str) and is_address(path):
            return cls._elsewhere(path, named)
        path = path_argument("path", path)
        if str(path) == STANDARD_INPUT:
            return cls(path, ".jsonl" if named else ".txt")
        _check_place(path)
        return cls(path, _kind(str(path), named))

    @classmethod
    def _elsewhere(cls, address: str, named: str | None) -> TableFile:
        hub = HubTable.at(address)
        if hub:
            return cls(Path(hub.name), HUB, address, hub)
        name = public(address)
        return cls(Path(name), _kind(name, named), address)

    @property
    def comes_once(self) -> bool:
        """Whether it cannot be read again, or not cheaply."""
        return self.is_standard_input or bool(self.address)

    @property
    def is_standard_input(self) -> bool:
        """Whether the rows come from standard input."""
        return str(self.path) == STANDARD_INPUT

    @property
    def name(self) -> str:
        """What it is called in messages."""
        if self.address:
            return public(self.address)
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
            with self._opened() as file:
                yield from READERS[self.kind](file, columns)
        except InputError as error:
            raise InputError(shortened(f"{self.name}: {error}")) from None
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise InputError(shortened(f"cannot read {self.name}: {reason}")) from None

    def _opened(self) -> AbstractContextManager[Any]:
        if self.hub:
            return nullcontext(self.hub)
        if self.address:
            return opened_address(self.address, self.path)
        return opened(self.path, self.is_standard_input)


def _kind(name: str, named: str | None) -> str:
    """The extension that says how a file is read; raises InputError for an unknown one."""
    path = Path(name.lower())
    kind = (path.with_suffix("") if path.suffix in ZIPPED else path).suffix
    if kind not in EXTENSIONS:
        known = f"{', '.join(EXTENSIONS)} (or those with {', '.join(ZIPPED)})"
        raise InputError(f"{name} is none of {known}; rename or convert it")
    if kind == ".txt" and named:
        raise InputError(
            f"{name} has one text per line and no column {named!r}; leave the column out"
        )
    return kind


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


def _hub_rows(table: HubTable, columns: Columns) -> Iterator[Row]:
    return table.rows(columns)


READERS: dict[str, Callable[[Any, Columns], Iterator[Row]]] = {
    ".txt": _txt_rows,
    ".jsonl": _jsonl_rows,
    ".csv": _csv_rows,
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".parquet": _parquet_rows,
    HUB: _hub_rows,
}
EXTENSIONS = tuple(kind for kind in READERS if kind != HUB)
