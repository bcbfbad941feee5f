"""Texts: lists and files (.txt, .jsonl, .csv, .parquet, standard input) -> `Texts`."""

from __future__ import annotations

import csv
import gzip
import json
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from kvlens.store.errors import InputError
from kvlens.texts.texts import Texts, _problem


def read_texts(
    path: str | Path,
    column: str | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    ids: bool | str = False,
    empty: bool = False,
) -> Texts:
    """Texts from a UTF-8 file, read as its extension says; with a further ``.gz`` it is unzipped.

    ``.txt``: one per line, blank lines skipped. ``.jsonl``: the field `column` of each object. ``.csv``,
    ``.tsv`` (with a header), ``.parquet``: the column `column`. The default of `column` is "text". ``-``:
    standard input, one per line, or as .jsonl when a column is given.
    limit: take the first n texts and read no further. skip_bad: leave out rows without a usable text
    (malformed, missing, empty, not a string) and count them in `source` and `skipped`, instead of raising.
    ids: the field or column with the rows' ids (strings or whole numbers); True: ``id`` or ``_id`` if there is one,
    else the 0-based number of the row (of the line in .txt and .jsonl). empty: take empty texts as they are.
    Raises InputError when the file, its format, its encoding, the column or a row cannot be used.
    """
    path, stdin = Path(path), str(path) == "-"
    named = column or (ids if isinstance(ids, str) else None)
    kind = (
        (".jsonl" if named else ".txt")
        if stdin
        else Path(path.name.lower().removesuffix(".gz")).suffix
    )
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    if not stdin and not path.is_file():
        raise InputError(
            f"{path} is a directory; give a file" if path.is_dir() else f"no such file: {path}"
        )
    if kind not in _READERS:
        raise InputError(
            f"{path} is none of {', '.join(_READERS)} (or those with .gz); rename or convert it"
        )
    if kind == ".txt" and named:
        raise InputError(
            f"{path} has one text per line and no column {named!r}; leave the column out"
        )
    name = "standard input" if stdin else str(path)
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    items: list[str] = []
    row_ids: list[str] = []
    bad = 0
    try:
        with nullcontext(sys.stdin.buffer) if stdin else opener(path, "rb") as file:
            for where, value, row_id in _READERS[kind](file, column or "text", ids):
                problem = _problem(value) or ("" if empty or value.strip() else "is empty")
                problem = problem or _id_problem(row_id)
                if problem and not skip_bad:
                    raise InputError(f"{where} {problem}; correct it, or skip such rows (skip_bad)")
                if problem:
                    bad += 1
                else:
                    items.append(value)
                    row_ids.append(str(row_id))
                if len(items) == limit:
                    break
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"cannot read {name}: {getattr(error, 'strerror', None) or error}"
        ) from None
    skipped = f" ({bad} bad rows skipped)" if bad else ""
    if not items:
        raise InputError(f"{name} has no texts{skipped}")
    source = name if stdin else path.name
    source += "" if kind == ".txt" else f", column {column or 'text'}"
    return Texts(tuple(items), source + skipped, tuple(row_ids) if ids else None, bad)


def _id_problem(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return ""
    if not isinstance(value, str):
        return f"has the id {reprlib.repr(value)}, neither a string nor a whole number"
    return f"has an id that {problem}" if (problem := _problem(value)) else ""


def _id_column(names: Iterable[str], column: str, ids: bool | str) -> str:
    """The field that holds the ids; empty when the row's number is its id."""
    if isinstance(ids, str):
        return ids
    return next((name for name in ("id", "_id") if ids and name in names and name != column), "")


# A reader yields (where, value, id) per row; a value that is an InputError says why the row is bad.
_Rows = Iterator[tuple[str, Any, Any]]


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"line {number} is not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from None


def _read_txt(file: Any, column: str, ids: bool | str) -> _Rows:
    return ((f"line {i}", line.rstrip("\r\n"), i - 1) for i, line in _lines(file) if line.strip())


def _read_jsonl(file: Any, column: str, ids: bool | str) -> _Rows:
    name: str | None = None
    for where, line, number in _read_txt(file, column, ids):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, InputError(f"is not valid JSON ({getattr(error, 'msg', error)})"), number
            continue
        if not isinstance(row, dict):
            yield where, InputError("is not a JSON object"), number
            continue
        # The first object decides: a mixture of ids and row numbers would name nothing.
        name = _id_column(row, column, ids) if name is None else name
        missing = [field for field in (column, name) if field and field not in row]
        if missing:
            has = ", ".join(map(repr, row))
            yield where, InputError(f"has no field {missing[0]!r}; it has: {has}"), number
        else:
            yield where, row[column], row[name] if name else number


def _read_csv(file: Any, column: str, ids: bool | str, delimiter: str = ",") -> _Rows:
    csv.field_size_limit(2**31 - 1)
    # Strict, since a quote left open would otherwise swallow the rest of the file in silence.
    reader = csv.reader((line for _, line in _lines(file)), delimiter=delimiter, strict=True)
    rows = filter(None, reader)
    try:
        if (header := next(rows, None)) is None:
            return
        index, name = _index(header, column), _id_column(header, column, ids)
        ids_index = _index(header, name) if name else None
        for number, row in enumerate(rows):
            where = f"line {reader.line_num}"
            if len(row) != len(header):
                yield where, InputError(f"has {len(row)} fields, the header {len(header)}"), number
            else:
                yield where, row[index], number if ids_index is None else row[ids_index]
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV ({error})") from None


def _read_parquet(file: Any, column: str, ids: bool | str) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        name = _id_column(names, column, ids)
        wanted = [names[_index(names, c)] for c in dict.fromkeys((column, name or column))]
        batches = (
            zip(*(batch.column(c) for c in wanted), strict=True)
            for batch in table.iter_batches(1024, columns=wanted)
        )
        for number, row in enumerate(chain.from_iterable(batches)):
            yield f"row {number + 1}", row[0].as_py(), row[-1].as_py() if name else number
    except pa.ArrowException as error:
        raise InputError(f"not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _index(columns: list[str], column: str) -> int:
    if column not in columns:
        raise InputError(f"no column {column!r}; it has: {', '.join(map(repr, columns))}")
    return columns.index(column)


_READERS: dict[str, Callable[[Any, str, bool | str], _Rows]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".parquet": _read_parquet,
}
