"""Readers: a file of texts (.txt, .jsonl, .csv, .tsv, .parquet, standard input) -> `Texts`."""

from __future__ import annotations

from pathlib import Path

from kvlens.store.arguments import flag_argument, text_argument, whole_number
from kvlens.store.errors import InputError
from kvlens.texts.text_file import TextFile, skipped_words
from kvlens.texts.texts import Texts


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
            ``-``: standard input, one per line, or as .jsonl when a column is named. An address
            (``s3://``, ``https://``, ``memory://``, ...) of such a file, by fsspec. Or a data set
            of the Hugging Face hub, ``hf://ORG/NAME[/CONFIG][:SPLIT][#COLUMN]``, streamed by
            `datasets`.
        column: default "text", or that of the ``hf://`` address.
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
    if not isinstance(ids, str):
        ids = flag_argument("ids", ids)
    file = TextFile.at(path, column, ids, skip_bad, empty)
    entries = []
    bad = 0
    for entry in file.entries():
        if entry.problem:
            bad += 1
        else:
            entries.append(entry)
        if len(entries) == limit:
            break
    if not entries:
        raise InputError(f"{file.name} has no texts{skipped_words(bad)}")
    return Texts(
        items=tuple(entry.text for entry in entries),
        source=file.source + skipped_words(bad),
        ids=tuple(entry.id for entry in entries) if ids else None,
        skipped=bad,
    )
