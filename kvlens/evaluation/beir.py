"""BEIR: a folder with corpus.jsonl, queries.jsonl and judgements becomes a retrieval task."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Container
from pathlib import Path
from typing import Any

from kvlens.evaluation.retrieval import Collection, retrieval_task
from kvlens.store.errors import InputError
from kvlens.texts.readers import read_texts

HEADER = "query-id"  # the first cell of the first line, where there is a header

Judgements = dict[str, dict[str, int]]


def read_beir(name: str, folder: Path, known: Any = None, split: str | None = None) -> Any:
    """The retrieval task of a folder in BEIR's layout.

    The folder has corpus.jsonl (_id, text, perhaps title), queries.jsonl (_id, text) and
    qrels/SPLIT.tsv, or qrels.tsv for the task's own split (query-id, corpus-id, score; a header).

    Args:
        name: The task's name.
        folder: Where the files are.
        known: A task of mteb whose class and metadata are kept.
        split: By default that of `known`, else ``test``.

    Raises:
        InputError: For a file that is missing or cannot be read, with its line.
    """
    corpus = {
        row["_id"]: (row.get("title") or "", row["text"]) for row in _rows(folder / "corpus.jsonl")
    }
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    default = known.eval_splits[0] if known is not None else "test"
    split = split or default
    file = _judgements_file(folder, split, split == default)
    relevant = _read_judgements(file, queries)
    _check_judgements(file, name, relevant, corpus)
    collection = Collection(queries, corpus, relevant)
    task = retrieval_task(name, collection, f"{name}, BEIR layout", known)
    return task.filter_eval_splits([split])


def _rows(file: Path) -> list[dict[str, Any]]:
    read_texts(file, ids="_id", empty=True)  # its checks name the line
    with open(file, encoding="utf-8-sig") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [{**row, "_id": str(row["_id"])} for row in rows]


def _judgements_file(folder: Path, split: str, is_default: bool) -> Path:
    places = [folder / "qrels" / f"{split}.tsv"]
    if is_default:
        places.insert(0, folder / "qrels.tsv")
    for file in places:
        if file.is_file():
            return file
    names = " or ".join(str(file.relative_to(folder)) for file in places)
    raise InputError(f"{folder} has no {names}: it names query-id, corpus-id and score")


def _read_judgements(file: Path, queries: Container[str]) -> Judgements:
    """Query id -> document id -> grade, in the order of the file."""
    relevant: Judgements = {}
    # By csv and not by pandas: the first bad line is named, and a header may be missing.
    with open(file, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if number == 1 and row[:1] == [HEADER]:
                continue
            if len(row) != 3 or not row[2].lstrip("-").isdigit():
                raise InputError(
                    f"{file}, line {number}: needs query-id, corpus-id and a whole score, "
                    "tab-separated"
                )
            query, document, grade = row
            if query not in queries:
                raise InputError(f"{file}, line {number}: no query {query!r} in queries.jsonl")
            relevant.setdefault(query, {})[document] = int(grade)
    return relevant


def _check_judgements(file: Path, name: str, relevant: Judgements, corpus: Container[str]) -> None:
    judged = [document for grades in relevant.values() for document in grades]
    absent = [document for document in judged if document not in corpus]
    if len(absent) == len(judged):
        raise InputError(
            f"{file}: none of its {len(judged)} judgements names a document of corpus.jsonl"
        )
    if absent:
        warnings.warn(
            f"{len(absent)} of {len(judged)} judgements of {name} name documents that are not "
            f"there ({absent[0]!r}): they count as relevant and never found, as in mteb",
            stacklevel=3,
        )
