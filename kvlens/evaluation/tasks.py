"""Tasks: mteb's own by name, with data from the hub or from local folders.

Scoring stays mteb's own; the tasks made here only bring their data along.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

from kvlens.evaluation.beir import read_beir
from kvlens.evaluation.kinds import Unsupported, import_mteb, unit
from kvlens.store.checking import arguments, names, optional, path, text
from kvlens.store.errors import InputError, shortened
from kvlens.store.files import sha256_file
from kvlens.store.notices import notice

CORPUS = "corpus.jsonl"  # a folder with this file has BEIR's layout
LONGEST_NAME = 200  # of a task; comparing takes a time that grows with the square


@arguments(names=names, data_dir=optional(path), split=optional(text))
def find_tasks(
    names: Sequence[str], data_dir: str | Path | None = None, split: str | None = None
) -> list[Any]:
    """Tasks of mteb by the names of tasks and benchmarks.

    Of an aggregate such as CQADupstackRetrieval every part is found (its own score is their mean);
    of a benchmark, kinds of task that are not supported are left out, with a warning.

    Args:
        names: Of tasks and benchmarks.
        data_dir: Read each from the folder ``data_dir/NAME``, not from the hub: files in mteb's
            schema (test.jsonl and so on), or corpus.jsonl, queries.jsonl and qrels.tsv (then any
            name will do).
        split: Evaluate this one, not the task's own.

    Raises:
        InputError: For an unknown task, a kind that is not supported, and a missing folder.
    """
    import_mteb()
    root = None if data_dir is None else Path(data_dir)
    if root is not None and not os.path.isdir(root):
        raise InputError(shortened(f"`data_dir` {data_dir}: no such folder"))
    tasks = []
    for name in names:
        tasks += _named(name, root, split)
    if split:
        for task in tasks:
            task.filter_eval_splits([split])
    return tasks


def _named(name: str, root: Path | None, split: str | None) -> list[Any]:
    """The tasks of one name: of a task, of a folder in BEIR's layout, of a benchmark."""
    mteb = import_mteb()
    try:
        whole = mteb.get_task(name)
    except KeyError:
        if root is not None and _is_in_beirs_layout(root, name):
            return [read_beir(name, root / name, split=split)]
        return _of_benchmark(name, root, split)
    return [_with_data(part, root, split) for part in _parts(whole)]


def _is_in_beirs_layout(root: Path, name: str) -> bool:
    """Whether a folder of this name, no path, has BEIR's files."""
    return Path(name).name == name and os.path.isfile(root / name / CORPUS)


def _of_benchmark(name: str, root: Path | None, split: str | None) -> list[Any]:
    try:
        members = import_mteb().get_benchmark(name).tasks
    except KeyError:
        unknown = shortened(repr(name), 60)
        raise InputError(f"unknown task {unknown}; the nearest: {_nearest(name)}") from None
    tasks = []
    for member in members:
        for part in _parts(member):
            try:
                tasks.append(_with_data(part, root, split))
            except Unsupported as error:
                notice(f"left out: {error}")
    return tasks


def _nearest(name: str) -> str:
    mteb = import_mteb()
    known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
    known += [benchmark.name for benchmark in mteb.get_benchmarks()]
    near = difflib.get_close_matches(name[:LONGEST_NAME], known, 3)
    return ", ".join(near) or "one of `mteb available-tasks`"


def _parts(task: Any) -> list[Any]:
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    if isinstance(task, AbsTaskAggregate):
        return [copy(part) for part in task.tasks]
    return [task]


def _with_data(task: Any, root: Path | None, split: str | None) -> Any:
    """The task, or one of its class with the data of its folder. Raises Unsupported."""
    unit(task)
    if root is None:
        return task
    name = task.metadata.name
    folder = root / name
    if not folder.is_dir():
        folders = sorted(path.name for path in root.iterdir() if path.is_dir())
        message = f"no data for {name}: {root} has no folder of that name (it has "
        raise InputError(shortened(f"{message}{', '.join(folders) or 'none'})"))
    if (folder / CORPUS).is_file():
        return read_beir(name, folder, task, split)
    return _local(task, folder)


def _local(task: Any, folder: Path) -> Any:
    """A task of the same class whose data set is the folder; its files' hash is the revision."""
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = [[path.name, sha256_file(path)] for path in files]
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    dataset = {
        **task.metadata.dataset,
        "path": str(folder),
        "revision": sha256(json.dumps(hashes).encode()).hexdigest(),
    }
    metadata = task.metadata.model_copy(update={"dataset": dataset})
    local = type(type(task).__name__, (type(task),), {"metadata": metadata})()
    local.hf_subsets = task.hf_subsets
    return local
