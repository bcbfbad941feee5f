"""BEIR: retrieval tasks from corpus, queries and judgements."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvlens.store.errors import InputError
from kvlens.texts.readers import read_texts


def retrieval_task(
    name: str,
    queries: Mapping[str, str],
    corpus: Mapping[str, tuple[str, str]],
    relevant: Mapping[str, Mapping[str, int]],
    candidates: Mapping[str, Sequence[str]] | None = None,
    source: str = "",
    known: Any = None,
) -> Any:
    """A task of mteb's own retrieval class on this data; its main score is NDCG@10.

    queries: id -> text; corpus: id -> (title, text); relevant: query id -> document id -> grade; candidates: query
    id -> the documents ranked for it (default: all). known: a task of mteb whose class and metadata are kept.
    The data's hash is the data set's revision.
    """
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    content = json.dumps([queries, corpus, relevant, candidates], sort_keys=True)
    dataset = {
        "path": name,
        "revision": sha256(content.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    if known is not None:
        metadata = known.metadata.model_copy(update={"dataset": dataset})
    else:
        metadata = TaskMetadata(
            name=name,
            description=source or name,
            dataset=dataset,
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

    def load_data(self: Any, num_proc: int | None = None, **options: Any) -> None:
        rows = [{"id": key, "title": title, "text": text} for key, (title, text) in corpus.items()]
        asked = [{"id": key, "text": queries[key]} for key in relevant]
        one = {
            "corpus": Dataset.from_list(rows),
            "queries": Dataset.from_list(asked),
            "relevant_docs": {key: dict(grades) for key, grades in relevant.items()},
            "top_ranked": {key: list(candidates[key]) for key in relevant} if candidates else None,
        }
        self.dataset = {"default": {split: dict(one) for split in self.eval_splits}}
        self.data_loaded = True

    base = type(known) if known is not None else AbsTaskRetrieval
    return type(base.__name__, (base,), {"metadata": metadata, "load_data": load_data})()


def read_beir(name: str, folder: Path, known: Any = None, split: str | None = None) -> Any:
    """The retrieval task of a folder with corpus.jsonl (_id, text, perhaps title), queries.jsonl (_id, text) and
    qrels/SPLIT.tsv, or qrels.tsv for the task's own split (query-id, corpus-id, score; a header). split: default that
    of `known`, else test. Raises InputError with file and line."""
    corpus = {
        row["_id"]: (row.get("title") or "", row["text"]) for row in _rows(folder / "corpus.jsonl")
    }
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    own = known.eval_splits[0] if known is not None else "test"
    split = split or own
    places = [*([folder / "qrels.tsv"] if split == own else []), folder / "qrels" / f"{split}.tsv"]
    file = next((f for f in places if f.is_file()), None)
    if file is None:
        names = " or ".join(str(f.relative_to(folder)) for f in places)
        raise InputError(f"{folder} has no {names}: it names query-id, corpus-id and score")
    relevant: dict[str, dict[str, int]] = {}
    with open(file, encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if number == 1 and row[:1] == ["query-id"]:
                continue
            if len(row) != 3 or not row[2].lstrip("-").isdigit():
                raise InputError(
                    f"{file}, line {number}: needs query-id, corpus-id and a whole score, tab-separated"
                )
            if row[0] not in queries:
                raise InputError(f"{file}, line {number}: no query {row[0]!r} in queries.jsonl")
            relevant.setdefault(row[0], {})[row[1]] = int(row[2])
    judged = [document for grades in relevant.values() for document in grades]
    absent = [document for document in judged if document not in corpus]
    if len(absent) == len(judged):
        raise InputError(
            f"{file}: none of its {len(judged)} judgements names a document of corpus.jsonl"
        )
    if absent:
        what = (
            f"{len(absent)} of {len(judged)} judgements of {name} name documents that are not there"
        )
        warnings.warn(
            f"{what} ({absent[0]!r}): they count as relevant and never found, as in mteb",
            stacklevel=2,
        )
    task = retrieval_task(
        name, queries, corpus, relevant, source=f"{name}, BEIR layout", known=known
    )
    return task.filter_eval_splits([split])


def _rows(file: Path) -> list[dict[str, Any]]:
    read_texts(file, ids="_id", empty=True)  # its checks name the line
    with open(file, encoding="utf-8-sig") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [{**row, "_id": str(row["_id"])} for row in rows]
