"""Tasks: mteb's own by name, with data from the hub or from local folders, and retrieval in BEIR's layout.

Scoring stays mteb's own; the tasks made here only bring their data along.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvlens.files import InputError, sha256_file
from kvlens.texts import read_texts

# mteb's names of metrics -> those of pytrec_eval, which it computes them with.
TREC = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


def import_mteb() -> Any:
    """The package mteb, without its chatter. Raises InputError when it is not installed."""
    try:
        import mteb
    except ImportError as error:
        raise InputError("evaluation needs mteb: pip install 'kvlens[eval]'") from error
    for name in ("mteb", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mteb


def find_tasks(names: Sequence[str], data_dir: str | Path | None = None, split: str | None = None) -> list[Any]:
    """Tasks of mteb by the names of tasks and benchmarks.

    data_dir: read each from the folder ``data_dir/NAME``, not from the hub: files in mteb's schema (test.jsonl and so
    on), or corpus.jsonl, queries.jsonl and qrels.tsv (then any name will do). split: evaluate this one, not the
    task's own. Of an aggregate such as CQADupstackRetrieval every part is found (its own score is their mean), of a
    benchmark, kinds of task that are not supported are left out, with a warning. Raises InputError for an unknown
    task, a kind that is not supported, and a missing folder.
    """
    mteb, found = import_mteb(), []
    if data_dir and not Path(data_dir).is_dir():
        raise InputError(f"--data-dir {data_dir}: no such folder")
    for name in names:
        with contextlib.suppress(KeyError):
            found += [_with_data(t.metadata.name, t, data_dir, split) for t in _parts(mteb.get_task(name))]
            continue
        if data_dir and (Path(data_dir) / name / "corpus.jsonl").is_file():
            found.append(_with_data(name, None, data_dir, split))
            continue
        try:
            tasks = mteb.get_benchmark(name).tasks
        except KeyError:
            known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)] + [
                b.name for b in mteb.get_benchmarks()
            ]
            near = ", ".join(difflib.get_close_matches(name, known, 3)) or "one of `mteb available-tasks`"
            raise InputError(f"unknown task {name!r}; the nearest: {near}") from None
        for task in (part for whole in tasks for part in _parts(whole)):
            try:
                found.append(_with_data(task.metadata.name, task, data_dir, split))
            except Unsupported as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
    for task in found if split else ():
        task.filter_eval_splits([split])
    return found


def _parts(task: Any) -> list[Any]:
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    return [copy(part) for part in task.tasks] if isinstance(task, AbsTaskAggregate) else [task]


def _with_data(name: str, task: Any, data_dir: str | Path | None, split: str | None) -> Any:
    if task is not None:
        unit(task)
    if not data_dir:
        return task
    folder = Path(data_dir) / name
    if not folder.is_dir():
        have = ", ".join(sorted(f.name for f in Path(data_dir).iterdir() if f.is_dir())) or "none"
        raise InputError(f"no data for {name}: {data_dir} has no folder of that name (it has {have})")
    if (folder / "corpus.jsonl").is_file():
        return read_beir(name, folder, task, split)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    revision = sha256(json.dumps([[f.name, sha256_file(f)] for f in files]).encode()).hexdigest()
    dataset = {**task.metadata.dataset, "path": str(folder), "revision": revision}
    metadata = task.metadata.model_copy(update={"dataset": dataset})
    local = type(type(task).__name__, (type(task),), {"metadata": metadata})()
    local.hf_subsets = task.hf_subsets
    return local


class Unsupported(InputError):
    """A kind of task that kvlens does not evaluate."""


def unit(task: Any) -> str:
    """What is resampled on this task of mteb. Raises Unsupported for other kinds of task."""
    from mteb import abstasks as kinds

    main = task.metadata.main_score
    if task.modalities == ["text"]:
        if isinstance(task, kinds.AbsTaskSTS) and main == "cosine_spearman":
            return "pairs"
        if isinstance(task, kinds.AbsTaskPairClassification) and main in ("max_ap", "similarity_ap", "cosine_ap"):
            return "pairs"
        if isinstance(task, kinds.AbsTaskRetrieval) and main.partition("_at_")[0] in TREC:
            return "queries"
        if isinstance(task, kinds.AbsTaskClassification):
            whole = main == "accuracy" and task.metadata.type == "Classification" and not task.is_cross_validation
            return "test texts" if whole else "experiments"
        if isinstance(task, kinds.AbsTaskClustering | kinds.AbsTaskClusteringLegacy) and main == "v_measure":
            return "clusterings"
    raise Unsupported(f"{task.metadata.name} is of the kind {task.metadata.type} ({main}), which is not supported")


def subset_of(task: Any, subset: str) -> Any:
    """The splits of a subset of a loaded task, by name."""
    return task.dataset.get(subset, task.dataset)


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
        for split in [*task.eval_splits, *([task.train_split] if hasattr(task, "train_split") else [])]:
            if split not in holder:
                raise InputError(f"{task.metadata.name} has no split {split!r}; it has {', '.join(holder)}")
            rows = holder[split]
            if unit(task) == "pairs" and len(rows) == 1 and all(isinstance(v, list) for v in rows[0].values()):
                holder[split] = datasets.Dataset.from_dict(rows[0])  # mteb's old layout: one row with all pairs
            missing = [c for c in _columns(task) if c not in holder[split].column_names or None in holder[split][c]]
            if missing:
                raise _wrong(task, f"no column {missing[0]!r}, or not in all rows")
            if unit(task) == "pairs" and any(isinstance(v, str) for v in holder[split][_columns(task)[-1]]):
                raise _wrong(task, f"column {_columns(task)[-1]!r} holds text, no numbers")
        for split in task.eval_splits:
            if limit:
                _cut(task, holder, split, limit)
            if unit(task) == "pairs" and len(set(holder[split][what := _columns(task)[-1]])) < 2:
                n = len(holder[split])
                raise InputError(f"every {what} of {task.metadata.name}'s {n} pairs is the same: nothing to rank by")


def _columns(task: Any) -> list[str]:
    names = ("column_names", "input_column_name", "input1_column_name", "input2_column_name", "label_column_name")
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
                        return InputError(f"{file}, line {number}: no column {column!r}; it has {', '.join(row)}")
                    if column == "score" and not isinstance(row[column], int | float):
                        return InputError(f"{file}, line {number}: column 'score' is {row[column]!r}, no number")
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
        ranked = one["top_ranked"] and {q: [d for d in one["top_ranked"][q] if d in left] for q in kept}
        corpus = one["corpus"].select([i for i, name in enumerate(documents) if name in left])
        asked = one["queries"].select([i for i, name in enumerate(queries) if name in relevant])
        holder[split] = {"corpus": corpus, "queries": asked, "relevant_docs": relevant, "top_ranked": ranked}
    elif unit(task) != "clusterings":
        holder[split] = holder[split].select(spread(len(holder[split])))
    if unit(task) == "test texts":
        labels = holder[task.train_split][task.label_column_name]
        places: dict[Any, list[int]] = {label: [] for label in labels}
        for i, label in enumerate(labels):
            places[label].append(i)
        first = [i for found in places.values() for i in found[: task.samples_per_label]]
        holder[task.train_split] = holder[task.train_split].select(first)


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
    dataset = {"path": name, "revision": sha256(content.encode("utf-8", "surrogatepass")).hexdigest()}
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
    corpus = {row["_id"]: (row.get("title") or "", row["text"]) for row in _rows(folder / "corpus.jsonl")}
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
                raise InputError(f"{file}, line {number}: needs query-id, corpus-id and a whole score, tab-separated")
            if row[0] not in queries:
                raise InputError(f"{file}, line {number}: no query {row[0]!r} in queries.jsonl")
            relevant.setdefault(row[0], {})[row[1]] = int(row[2])
    judged = [document for grades in relevant.values() for document in grades]
    absent = [document for document in judged if document not in corpus]
    if len(absent) == len(judged):
        raise InputError(f"{file}: none of its {len(judged)} judgements names a document of corpus.jsonl")
    if absent:
        what = f"{len(absent)} of {len(judged)} judgements of {name} name documents that are not there"
        warnings.warn(f"{what} ({absent[0]!r}): they count as relevant and never found, as in mteb", stacklevel=2)
    task = retrieval_task(name, queries, corpus, relevant, source=f"{name}, BEIR layout", known=known)
    return task.filter_eval_splits([split])


def _rows(file: Path) -> list[dict[str, Any]]:
    read_texts(file, ids="_id", empty=True)  # its checks name the line
    with open(file, encoding="utf-8-sig") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [{**row, "_id": str(row["_id"])} for row in rows]
