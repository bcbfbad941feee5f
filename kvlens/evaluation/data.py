"""Data: a task's data, loaded, checked and cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvlens.evaluation.tasks import subset_of, unit
from kvlens.store.errors import InputError


def load_data(task: Any, limit: int | None) -> None:
    """Load a task's data, once, check its columns, and cut it to `limit` pairs, test texts or queries.

    Evenly spread, since data sets are sorted. Of a retrieval corpus the judged documents are left, and 10 x `limit`
    others; of the training texts of a classification the first of each label. Clusterings stay whole.
    """
    if task.data_loaded:
        if getattr(task, "limit", None) == limit:
            return
        task.unload_data()
    task.limit = limit
    import datasets

    datasets.disable_progress_bars()
    try:
        task.load_data()
    except InputError:
        raise
    except Exception as error:
        raise _wrong(task, str(error)) from error
    if unit(task) == "queries":
        task.convert_v1_dataset_format_to_v2(num_proc=None)
    for subset in task.hf_subsets:
        holder = subset_of(task, subset)
        for split in [
            *task.eval_splits,
            *([task.train_split] if hasattr(task, "train_split") else []),
        ]:
            if split not in holder:
                raise InputError(
                    f"{task.metadata.name} has no split {split!r}; it has {', '.join(holder)}"
                )
            rows = holder[split]
            if (
                unit(task) == "pairs"
                and len(rows) == 1
                and all(isinstance(v, list) for v in rows[0].values())
            ):
                holder[split] = datasets.Dataset.from_dict(
                    rows[0]
                )  # mteb's old layout: one row with all pairs
            missing = [
                c
                for c in _columns(task)
                if c not in holder[split].column_names or None in holder[split][c]
            ]
            if missing:
                raise _wrong(task, f"no column {missing[0]!r}, or not in all rows")
            if unit(task) == "pairs" and any(
                isinstance(v, str) for v in holder[split][_columns(task)[-1]]
            ):
                raise _wrong(task, f"column {_columns(task)[-1]!r} holds text, no numbers")
        for split in task.eval_splits:
            if limit:
                _cut(task, holder, split, limit)
            if unit(task) == "pairs" and len(set(holder[split][what := _columns(task)[-1]])) < 2:
                n = len(holder[split])
                raise InputError(
                    f"every {what} of {task.metadata.name}'s {n} pairs is the same: nothing to rank by"
                )


def _columns(task: Any) -> list[str]:
    names = (
        "column_names",
        "input_column_name",
        "input1_column_name",
        "input2_column_name",
        "label_column_name",
    )
    found = [getattr(task, name, ()) for name in names]
    columns = [c for value in found for c in ([value] if isinstance(value, str) else value)]
    return [*columns, "score"] if unit(task) == "pairs" and task.metadata.type == "STS" else columns


def _wrong(task: Any, problem: str) -> InputError:
    """Why a task's data cannot be used; for local files, the line and the column."""
    place = Path(task.metadata.dataset["path"])
    for file in sorted(place.glob("*.jsonl")):
        with open(file, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = dict(json.loads(line))
                except (ValueError, TypeError) as error:
                    return InputError(f"{file}, line {number}: no JSON object ({error})")
                for column in _columns(task):
                    if row.get(column) is None:
                        return InputError(
                            f"{file}, line {number}: no column {column!r}; it has {', '.join(row)}"
                        )
                    if column == "score" and not isinstance(row[column], int | float):
                        return InputError(
                            f"{file}, line {number}: column 'score' is {row[column]!r}, no number"
                        )
    why = " ".join(problem.split())[:250]
    return InputError(
        f"cannot use the data of {task.metadata.name} ({place}); without the hub, give --data-dir: {why}"
    )


def _cut(task: Any, holder: Any, split: str, limit: int) -> None:
    def spread(n: int) -> list[int]:
        return [i * n // limit for i in range(limit)] if limit < n else list(range(n))

    if unit(task) == "queries":
        one = holder[split]
        kept = [list(one["relevant_docs"])[i] for i in spread(len(one["relevant_docs"]))]
        relevant = {query: one["relevant_docs"][query] for query in kept}
        judged = {document for grades in relevant.values() for document in grades}
        documents, queries = list(one["corpus"]["id"]), list(one["queries"]["id"])
        left = judged | set([name for name in documents if name not in judged][: 10 * limit])
        ranked = one["top_ranked"] and {
            q: [d for d in one["top_ranked"][q] if d in left] for q in kept
        }
        corpus = one["corpus"].select([i for i, name in enumerate(documents) if name in left])
        asked = one["queries"].select([i for i, name in enumerate(queries) if name in relevant])
        holder[split] = {
            "corpus": corpus,
            "queries": asked,
            "relevant_docs": relevant,
            "top_ranked": ranked,
        }
    elif unit(task) != "clusterings":
        holder[split] = holder[split].select(spread(len(holder[split])))
    if unit(task) == "test texts":
        labels = holder[task.train_split][task.label_column_name]
        places: dict[Any, list[int]] = {label: [] for label in labels}
        for i, label in enumerate(labels):
            places[label].append(i)
        first = [i for found in places.values() for i in found[: task.samples_per_label]]
        holder[task.train_split] = holder[task.train_split].select(first)
