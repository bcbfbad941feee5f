"""BEIR: a folder with corpus.jsonl, queries.jsonl and judgements becomes a retrieval task."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Container
from pathlib import Path
from typing import Any

from kvlens.evaluation.retrieval import Collection, retrieval_task
from kvlens.store.errors import InputError
from kvlens.texts.rows import read_rows
from kvlens.texts.texts import id_problem, text_problem

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
    corpus = _read_texts(folder / "corpus.jsonl")
    queries = {key: text for key, (_, text) in _read_texts(folder / "queries.jsonl").items()}
    default = known.eval_splits[0] if known is not None else "test"
    split = split or default
    file = _judgements_file(folder, split, split == default)
    relevant = _read_judgements(file, queries)
    _check_judgements(file, name, relevant, corpus)
    collection = Collection(queries, corpus, relevant)
    task = retrieval_task(name, collection, f"{name}, BEIR layout", known)
    return task.filter_eval_splits([split])


def _read_texts(file: Path) -> dict[str, tuple[str, str]]:
    """Id -> (title, text); a title may be missing, and a text empty."""
    texts: dict[str, tuple[str, str]] = {}
    for row in read_rows(file, ("_id", "text"), optional=("title",)):
        fields = row.fields or {}
        problem = row.problem or id_problem(fields["_id"]) or text_problem(fields["text"])
        if problem:
            raise InputError(f"{file}: {row.place} {problem}")
        texts[str(fields["_id"])] = (fields.get("title") or "", fields["text"])
    if not texts:
        raise InputError(f"{file} has no texts")
    return texts


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
