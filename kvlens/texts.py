"""Texts: lists and files (.txt, .jsonl, .csv, .parquet, standard input) -> `Texts`."""

from __future__ import annotations

import csv
import gzip
import json
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kvlens.files import InputError, sha256_texts


class TextsInfo(BaseModel):
    """What a saved result says about its texts: where they come from, how many, and their hash."""

    model_config = ConfigDict(frozen=True)

    source: str
    n: int
    sha256: str


@dataclass(frozen=True)
class Texts:
    """An ordered collection of texts. items: the texts; source: where they come from, for provenance;
    ids: one per text, or None. `sha256` covers the items and their order only."""

    items: tuple[str, ...]
    source: str
    ids: tuple[str, ...] | None = None

    @cached_property
    def sha256(self) -> str:
        return sha256_texts(self.items)

    @property
    def n(self) -> int:
        return len(self.items)

    def info(self) -> TextsInfo:
        return TextsInfo(source=self.source, n=self.n, sha256=self.sha256)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[str]:
        return iter(self.items)


def as_texts(texts: Texts | Iterable[str], source: str = "a list in Python") -> Texts:
    """`texts` as Texts. Raises InputError for one bare string, an item that is no text, or no item at all."""
    if isinstance(texts, Texts):
        return texts
    if isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable):
        raise InputError(f"texts must be a list of strings, not one {type(texts).__name__}")
    items = tuple(texts)
    for i, item in enumerate(items):
        if problem := _problem(item):
            raise InputError(f"texts[{i}] {problem}")
    if not items:
        raise InputError("the list of texts is empty; give at least one")
    return Texts(items, source)


def read_texts(
    path: str | Path, column: str | None = None, limit: int | None = None, skip_bad: bool = False
) -> Texts:
    """Texts from a UTF-8 file, read as its extension says; with a further ``.gz`` it is unzipped.

    ``.txt``: one per line, blank lines skipped. ``.jsonl``: the field `column` of each object. ``.csv``,
    ``.tsv`` (with a header), ``.parquet``: the column `column`. The default of `column` is "text". ``-``:
    standard input, one per line, or as .jsonl when `column` is given.
    limit: take the first n texts and read no further. skip_bad: leave out rows without a usable text
    (malformed, missing, empty, not a string) and count them in `source`, instead of raising.
    Raises InputError when the file, its format, its encoding, the column or a row cannot be used.
    """
    path, stdin = Path(path), str(path) == "-"
    kind = (".jsonl" if column else ".txt") if stdin else Path(path.name.lower().removesuffix(".gz")).suffix
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    if not stdin and not path.is_file():
        raise InputError(f"{path} is a directory; give a file" if path.is_dir() else f"no such file: {path}")
    if kind not in _READERS:
        raise InputError(f"{path} is none of {', '.join(_READERS)} (or those with .gz); rename or convert it")
    if kind == ".txt" and column:
        raise InputError(f"{path} has one text per line and no column {column!r}; leave the column out")
    name = "standard input" if stdin else str(path)
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    items: list[str] = []
    bad = 0
    try:
        with nullcontext(sys.stdin.buffer) if stdin else opener(path, "rb") as file:
            for where, value in _READERS[kind](file, column or "text"):
                problem = _problem(value) or ("" if value.strip() else "is empty")
                if problem and not skip_bad:
                    raise InputError(f"{where} {problem}; correct it, or skip such rows (skip_bad)")
                if problem:
                    bad += 1
                else:
                    items.append(value)
                if len(items) == limit:
                    break
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    skipped = f" ({bad} bad rows skipped)" if bad else ""
    if not items:
        raise InputError(f"{name} has no texts{skipped}")
    source = name if stdin else path.name
    return Texts(tuple(items), source + ("" if kind == ".txt" else f", column {column or 'text'}") + skipped)


def _problem(value: Any) -> str:
    if isinstance(value, InputError):
        return str(value)
    if not isinstance(value, str):
        return f"is {reprlib.repr(value)} ({type(value).__name__}), not a string"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which no tokenizer takes"
    return ""


# A reader yields (where, value) per row; a value that is an InputError says why the row is bad.
_Rows = Iterator[tuple[str, Any]]


def _lines(file: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, 1):
        try:
            yield f"line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"line {number} is not UTF-8 ({error.reason}); save the file as UTF-8") from None


def _read_txt(file: Any, column: str) -> _Rows:
    return ((where, line.rstrip("\r\n")) for where, line in _lines(file) if line.strip())


def _read_jsonl(file: Any, column: str) -> _Rows:
    for where, line in _read_txt(file, column):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield where, InputError(f"is not valid JSON ({getattr(error, 'msg', error)})")
            continue
        if not isinstance(row, dict):
            yield where, InputError("is not a JSON object")
        elif column not in row:
            yield where, InputError(f"has no field {column!r}; it has: {', '.join(map(repr, row))}")
        else:
            yield where, row[column]


def _read_csv(file: Any, column: str, delimiter: str = ",") -> _Rows:
    csv.field_size_limit(2**31 - 1)
    # Strict, since a quote left open would otherwise swallow the rest of the file in silence.
    reader = csv.reader((line for _, line in _lines(file)), delimiter=delimiter, strict=True)
    rows = filter(None, reader)
    try:
        if (header := next(rows, None)) is None:
            return
        index = _index(header, column)
        for row in rows:
            odd = InputError(f"has {len(row)} fields, the header {len(header)}")
            yield f"line {reader.line_num}", row[index] if len(row) == len(header) else odd
    except csv.Error as error:
        raise InputError(f"line {reader.line_num} is not valid CSV ({error})") from None


def _read_parquet(file: Any, column: str) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        _index(table.schema_arrow.names, column)
        batches = (batch.column(0) for batch in table.iter_batches(1024, columns=[column]))
        for number, value in enumerate(chain.from_iterable(batches), 1):
            yield f"row {number}", value.as_py()
    except pa.ArrowException as error:
        raise InputError(f"not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _index(columns: list[str], column: str) -> int:
    if column not in columns:
        raise InputError(f"no column {column!r}; it has: {', '.join(map(repr, columns))}")
    return columns.index(column)


_READERS: dict[str, Callable[[Any, str], _Rows]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".parquet": _read_parquet,
}
