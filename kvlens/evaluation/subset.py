"""Subset: a quick look at a task, on a part of its data that stands for the whole."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kvlens.evaluation.kinds import unit

DISTRACTORS = 10  # further documents a query


def cut(task: Any, splits: Any, split: str, limit: int) -> None:
    """Cut a split of a loaded task to `limit` pairs, test texts or queries, in place.

    Evenly spread, since data sets are sorted. Of a retrieval corpus the judged documents are left,
    and 10 x `limit` others; of the training texts of a classification the first of each label.
    Clusterings stay whole.

    Args:
        task: A task of mteb.
        splits: Its splits by name, of one subset.
        split: The one to cut.
        limit: How many items are left.
    """
    item = unit(task)
    if item == "queries":
        splits[split] = _cut_retrieval(splits[split], limit)
    elif item != "clusterings":
        rows = splits[split]
        splits[split] = rows.select(_evenly_spread(len(rows), limit))
    if item == "test texts":
        training = splits[task.train_split]
        labels = training[task.label_column_name]
        first = _first_of_each_label(labels, task.samples_per_label)
        splits[task.train_split] = training.select(first)


def _evenly_spread(n: int, limit: int) -> list[int]:
    if limit >= n:
        return list(range(n))
    return [i * n // limit for i in range(limit)]


def _cut_retrieval(whole: Any, limit: int) -> dict[str, Any]:
    """The parts of mteb's retrieval data, for `limit` of the judged queries."""
    judged_queries = list(whole["relevant_docs"])
    kept = [judged_queries[i] for i in _evenly_spread(len(judged_queries), limit)]
    relevant = {query: whole["relevant_docs"][query] for query in kept}
    documents = _documents_left(whole["corpus"]["id"], relevant, DISTRACTORS * limit)
    return {
        "corpus": _rows_with_id(whole["corpus"], documents),
        "queries": _rows_with_id(whole["queries"], set(kept)),
        "relevant_docs": relevant,
        "top_ranked": _ranked_left(whole["top_ranked"], kept, documents),
    }


def _documents_left(names: Any, relevant: dict[str, dict[str, int]], others: int) -> set[str]:
    judged = {document for grades in relevant.values() for document in grades}
    unjudged = [name for name in names if name not in judged]
    return judged | set(unjudged[:others])


def _ranked_left(top_ranked: Any, queries: list[str], documents: set[str]) -> Any:
    if not top_ranked:
        return top_ranked
    return {query: [name for name in top_ranked[query] if name in documents] for query in queries}


def _rows_with_id(table: Any, names: set[str]) -> Any:
    return table.select([i for i, name in enumerate(table["id"]) if name in names])


def _first_of_each_label(labels: Any, n: int) -> list[int]:
    """Indices of the first `n` of each label, label by label: the order decides mteb's sampling."""
    places: dict[Any, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        places[label].append(i)
    return [i for indices in places.values() for i in indices[:n]]
