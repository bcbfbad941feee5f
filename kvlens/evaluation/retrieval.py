"""Retrieval: a task of mteb's own retrieval class on queries, documents and judgements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

IN_MEMORY = "kvlens_in_memory"  # attribute of a task whose data needs no cache of datasets


@dataclass(frozen=True)
class Collection:
    """What a retrieval task is made of.

    Attributes:
        queries: Query id -> text.
        corpus: Document id -> (title, text).
        relevant: Query id -> document id -> grade, for the queries that are asked.
        candidates: Query id -> ids of the documents that are ranked for it; None: all documents.
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, tuple[str, str]]
    relevant: Mapping[str, Mapping[str, int]]
    candidates: Mapping[str, Sequence[str]] | None = None

    @property
    def revision(self) -> str:
        """The hash of all of it, by which mteb tells one state of a data set from another."""
        parts = [self.queries, self.corpus, self.relevant, self.candidates]
        content = json.dumps(parts, sort_keys=True)
        return sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def tables(self) -> dict[str, Any]:
        """A split in the layout of mteb's retrieval tasks."""
        from datasets import Dataset

        documents = [
            {"id": key, "title": title, "text": text} for key, (title, text) in self.corpus.items()
        ]
        asked = [{"id": key, "text": self.queries[key]} for key in self.relevant]
        ranked = None
        if self.candidates:
            ranked = {key: list(self.candidates[key]) for key in self.relevant}
        return {
            "corpus": Dataset.from_list(documents),
            "queries": Dataset.from_list(asked),
            "relevant_docs": {key: dict(grades) for key, grades in self.relevant.items()},
            "top_ranked": ranked,
        }


def retrieval_task(name: str, collection: Collection, source: str = "", known: Any = None) -> Any:
    """A task of mteb's own retrieval class on this data; its main score is NDCG@10.

    Args:
        name: The task's name.
        collection: Its data, whose hash is the data set's revision.
        source: Where the data comes from.
        known: A task of mteb whose class and metadata are kept.
    """
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    def load_data(self: Any, num_proc: int | None = None, **options: Any) -> None:
        tables = collection.tables()
        self.dataset = {"default": {split: dict(tables) for split in self.eval_splits}}
        self.data_loaded = True

    dataset = {"path": name, "revision": collection.revision}
    if known is not None:
        base = type(known)
        metadata = known.metadata.model_copy(update={"dataset": dataset})
    else:
        base = AbsTaskRetrieval
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
    members = {"metadata": metadata, "load_data": load_data, IN_MEMORY: True}
    return type(base.__name__, (base,), members)()
