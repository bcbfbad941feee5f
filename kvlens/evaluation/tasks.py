"""Tasks: mteb's own by name, with data from the hub or from local folders, and retrieval in BEIR's layout.

Scoring stays mteb's own; the tasks made here only bring their data along.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import warnings
from collections.abc import Sequence
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvlens.evaluation.beir import read_beir
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file

# mteb's names of metrics -> those of pytrec_eval, which it computes them with.
TREC = {
    "ndcg": "ndcg_cut",
    "map": "map_cut",
    "recall": "recall",
    "precision": "P",
    "hit_rate": "success",
}


def import_mteb() -> Any:
    """The package mteb, without its chatter. Raises InputError when it is not installed."""
    try:
        import mteb
    except ImportError as error:
        raise InputError("evaluation needs mteb: pip install 'kvlens[eval]'") from error
    for name in ("mteb", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mteb


def find_tasks(
    names: Sequence[str], data_dir: str | Path | None = None, split: str | None = None
) -> list[Any]:
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
            found += [
                _with_data(t.metadata.name, t, data_dir, split) for t in _parts(mteb.get_task(name))
            ]
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
            near = (
                ", ".join(difflib.get_close_matches(name, known, 3))
                or "one of `mteb available-tasks`"
            )
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
        raise InputError(
            f"no data for {name}: {data_dir} has no folder of that name (it has {have})"
        )
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
        if isinstance(task, kinds.AbsTaskPairClassification) and main in (
            "max_ap",
            "similarity_ap",
            "cosine_ap",
        ):
            return "pairs"
        if isinstance(task, kinds.AbsTaskRetrieval) and main.partition("_at_")[0] in TREC:
            return "queries"
        if isinstance(task, kinds.AbsTaskClassification):
            whole = (
                main == "accuracy"
                and task.metadata.type == "Classification"
                and not task.is_cross_validation
            )
            return "test texts" if whole else "experiments"
        if (
            isinstance(task, kinds.AbsTaskClustering | kinds.AbsTaskClusteringLegacy)
            and main == "v_measure"
        ):
            return "clusterings"
    raise Unsupported(
        f"{task.metadata.name} is of the kind {task.metadata.type} ({main}), which is not supported"
    )


def subset_of(task: Any, subset: str) -> Any:
    """The splits of a subset of a loaded task, by name."""
    return task.dataset.get(subset, task.dataset)
