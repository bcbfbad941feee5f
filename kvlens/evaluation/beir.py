"""BEIR: a folder with corpus.jsonl, queries.jsonl and judgements becomes a retrieval task."""

from __future__ import annotations

import csv
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from kvlens.evaluation.retrieval import Collection, retrieval_task
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError, shortened
from kvlens.store.notices import notice
from kvlens.texts.columns import Row
from kvlens.texts.contents import lines
from kvlens.texts.rows import read_rows
from kvlens.texts.texts import id_problem, text_problem

HEADER = "query-id"  # the first cell of the first line, where there is a header
GRADE = re.compile(r"-?\d{1,9}", re.ASCII)

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
    repeated = []
    for row in read_rows(file, ("_id", "text"), optional=("title",)):
        problem = _problem(row)
        if problem or row.fields is None:
            raise InputError(shortened(f"{file}: {row.place} {problem}"))
        key = str(row.fields["_id"])
        if key in texts:
            repeated.append(key)
        texts[key] = (row.fields.get("title") or "", row.fields["text"])
    if not texts:
        raise InputError(f"{file} has no texts")
    if repeated:
        notice(f"{file} repeats {len(repeated)} ids ({shown(repeated[0])}): the last text counts")
    return texts


def _problem(row: Row) -> str:
    """Why a row is no text of a collection, as the rest of a sentence on it; empty if it is one."""
    if row.problem or row.fields is None:
        return row.problem
    title = row.fields.get("title")
    if title is not None and text_problem(title):
        return f"has a title that {text_problem(title)}"
    return id_problem(row.fields["_id"]) or text_problem(row.fields["text"])


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
    for number, row in enumerate(_judgement_rows(file), 1):
        if number == 1 and row[:1] == [HEADER]:
            continue
        if len(row) != 3 or not GRADE.fullmatch(row[2]):
            raise InputError(
                f"{file}, line {number}: needs query-id, corpus-id and a whole score, tab-separated"
            )
        query, document, grade = row
        if query not in queries:
            message = f"{file}, line {number}: no query {query!r} in queries.jsonl"
            raise InputError(shortened(message))
        relevant.setdefault(query, {})[document] = int(grade)
    return relevant


def _judgement_rows(file: Path) -> list[list[str]]:
    # By csv and not by pandas: the first bad line is named, and a header may be missing.
    try:
        with open(file, "rb") as content:
            text = (line for _, line in lines(content))
            return list(csv.reader(text, delimiter="\t"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except (InputError, csv.Error) as error:
        raise InputError(shortened(f"{file}: {error}")) from None


def _check_judgements(file: Path, name: str, relevant: Judgements, corpus: Container[str]) -> None:
    judged = [document for grades in relevant.values() for document in grades]
    absent = [document for document in judged if document not in corpus]
    if len(absent) == len(judged):
        raise InputError(
            f"{file}: none of its {len(judged)} judgements names a document of corpus.jsonl"
        )
    if absent:
        notice(
            f"{len(absent)} of {len(judged)} judgements of {name} name documents that are not "
            f"there ({shown(absent[0])}): they count as relevant and never found, as in mteb"
        )
