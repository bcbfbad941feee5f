"""Readers: a file of texts (.txt, .jsonl, .csv, .tsv, .parquet, standard input) -> `Texts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.store.arguments import flag_argument, text_argument, whole_number
from kvlens.store.errors import InputError, shortened
from kvlens.texts.rows import TEXT_COLUMN, Columns, Row, TableFile, quoted
from kvlens.texts.texts import Texts, id_problem, text_problem

ID_COLUMNS = ("id", "_id")


def read_texts(
    path: str | Path,
    column: str | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    ids: bool | str = False,
    empty: bool = False,
) -> Texts:
    """Texts from a UTF-8 file, read as its extension says; with ``.gz`` or ``.zst`` it is unzipped.

    Args:
        path: ``.txt``: one text per line, blank lines skipped. ``.jsonl``: the field `column` of
            each object. ``.csv``, ``.tsv`` (with a header), ``.parquet``: the column `column`.
            ``-``: standard input, one per line, or as .jsonl when a column is named.
        column: default "text".
        limit: take the first n texts and read no further.
        skip_bad: leave out rows without a usable text (malformed, missing, empty, not a string)
            and count them in `source` and `skipped`, instead of raising.
        ids: the field or column with the rows' ids (strings or whole numbers). True: ``id`` or
            ``_id`` if there is one, else the 0-based number of the row (of the line in .txt and
            .jsonl).
        empty: take empty texts as they are.

    Returns:
        The texts, in the order of the rows.

    Raises:
        InputError: when the file, its format, its encoding, the column or a row cannot be used.
    """
    if limit is not None:
        limit = whole_number("limit", limit, least=1)
    if column is not None:
        text_argument("column", column)
    skip_bad = flag_argument("skip_bad", skip_bad)
    empty = flag_argument("empty", empty)
    id_column = ids if isinstance(ids, str) else None
    if id_column is None:
        ids = flag_argument("ids", ids)
    file = TableFile.at(path, named=column or id_column)
    entries = []
    bad = 0
    for entry in _entries(file, column or TEXT_COLUMN, ids, empty):
        if not entry.problem:
            entries.append(entry)
        elif skip_bad:
            bad += 1
        else:
            problem = shortened(f"{file.name}: {entry.place} {entry.problem}", 220)
            raise InputError(f"{problem}; correct it, or skip such rows (`skip_bad=True`)")
        if len(entries) == limit:
            break
    skipped = f" ({bad} bad rows skipped)" if bad else ""
    if not entries:
        raise InputError(f"{file.name} has no texts{skipped}")
    return Texts(
        items=tuple(entry.text for entry in entries),
        source=_source(file, column or TEXT_COLUMN) + skipped,
        ids=tuple(entry.id for entry in entries) if ids else None,
        skipped=bad,
    )


@dataclass(frozen=True)
class _Entry:
    """A row as a text with an id, or why it is none."""

    place: str
    text: str = ""
    id: str = ""
    problem: str = ""


def _entries(file: TableFile, column: str, ids: bool | str, empty: bool) -> Iterator[_Entry]:
    columns = Columns((column,))
    id_column: str | None = ""  # empty: a row's number is its id; None: not known yet
    if isinstance(ids, str):
        columns = Columns((column, ids))
        id_column = ids
    elif ids:
        columns = Columns((column,), optional=ID_COLUMNS)
        id_column = None
    for row in file.rows(columns):
        if id_column is None and row.fields is not None:
            # The first object decides: a mixture of ids and row numbers would name nothing.
            id_column = _id_column(row.fields, column)
        yield _entry(row, column, id_column or "", empty)


def _id_column(fields: Mapping[str, Any], column: str) -> str:
    """The column that holds the ids; empty when there is none."""
    return next((name for name in ID_COLUMNS if name in fields and name != column), "")


def _entry(row: Row, column: str, id_column: str, empty: bool) -> _Entry:
    if row.problem or row.fields is None:
        return _Entry(row.place, problem=row.problem)
    if id_column and id_column not in row.fields:
        problem = f"has no field {id_column!r}; it has: {quoted(row.fields)}"
        return _Entry(row.place, problem=problem)
    text = row.fields[column]
    row_id = row.fields[id_column] if id_column else row.number
    problem = text_problem(text)
    if not problem and not empty and not text.strip():
        problem = "is empty"
    problem = problem or id_problem(row_id)
    if problem:
        return _Entry(row.place, problem=problem)
    return _Entry(row.place, text, str(row_id))


def _source(file: TableFile, column: str) -> str:
    """Where the texts come from, without the folder; it is saved with every result.

    A name that is not UTF-8 can be opened, but not saved: its odd bytes are spelled out.
    """
    name = file.name if file.is_standard_input else file.path.name
    name = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return name if file.kind == ".txt" else f"{name}, column {column}"
