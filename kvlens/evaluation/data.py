"""Data: a task's data, loaded once, checked, and cut when only a part is asked for."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvlens.evaluation.kinds import columns, splits_of, unit
from kvlens.evaluation.subset import cut
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.files import check_cache_folder
from kvlens.texts.rows import read_rows

CACHE = "HF_DATASETS_CACHE"
# Of a disk or a quota that is full, a file that may not grow, what is mounted read-only.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def check_cache() -> None:
    """Raise InputError where datasets cannot keep what it loads; it would say so hours later."""
    import datasets

    check_cache_folder(Path(datasets.config.HF_DATASETS_CACHE), CACHE)


def load_data(task: Any, limit: int | None) -> None:
    """Load a task's data, once, check its columns, and cut it (see `subset.cut`).

    Args:
        task: A task of mteb. Its attribute `limit` remembers how it was cut, so that the same task
            can be loaded whole again.
        limit: Only so many pairs, test texts or queries; None: all.

    Raises:
        InputError: For data that cannot be loaded, a split or column that is missing, and pairs
            that are all judged the same; for local files with the line.
    """
    if task.data_loaded:
        if getattr(task, "limit", None) == limit:
            return
        task.unload_data()
    task.limit = limit
    _load(task)
    for subset in task.hf_subsets:
        splits = splits_of(task, subset)
        for split in _splits_read(task):
            if split not in splits:
                raise InputError(
                    f"{task.metadata.name} has no split {split!r}; it has {', '.join(splits)}"
                )
            splits[split] = _unfolded(task, splits[split])
            _check_columns(task, splits[split])
        for split in task.eval_splits:
            if limit:
                cut(task, splits, split, limit)
            _check_judgements(task, splits[split])


def _load(task: Any) -> None:
    import datasets

    datasets.disable_progress_bars()
    try:
        task.load_data()
        if unit(task) == "queries":
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except InputError:
        raise
    except Exception as error:
        no_room = _no_room(error)
        if no_room is not None:
            folder = datasets.config.HF_DATASETS_CACHE
            reason = no_room.strerror or no_room
            raise InputError(
                f"cannot write into the cache {folder} ({reason}): "
                f"set {CACHE} to a folder that can be written"
            ) from error
        raise _unusable(task, one_line(error)) from error


def _no_room(error: BaseException | None) -> OSError | None:
    """The error of a disk that took no more, among those that led to `error`."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error
        error = error.__cause__ or error.__context__
    return None


def _splits_read(task: Any) -> list[str]:
    """What is evaluated, and what a classification is trained on."""
    splits = list(task.eval_splits)
    if hasattr(task, "train_split"):
        splits.append(task.train_split)
    return splits


def _unfolded(task: Any, rows: Any) -> Any:
    """Pairs in mteb's old layout, one row that holds lists of all pairs, as a row a pair."""
    if unit(task) != "pairs" or len(rows) != 1:
        return rows
    if not all(isinstance(value, list) for value in rows[0].values()):
        return rows
    import datasets

    return datasets.Dataset.from_dict(rows[0])


def _check_columns(task: Any, rows: Any) -> None:
    for name in columns(task):
        if name not in rows.column_names or None in rows[name]:
            raise _unusable(task, f"no column {name!r}, or not in all rows")
    if unit(task) == "pairs":
        judge = columns(task)[-1]
        if not all(_is_number(value) for value in rows[judge]):
            raise _unusable(task, f"column {judge!r} holds something else than finite numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _check_judgements(task: Any, rows: Any) -> None:
    if unit(task) != "pairs":
        return
    judge = columns(task)[-1]
    if len(set(rows[judge])) < 2:
        raise InputError(
            f"every {judge} of {task.metadata.name}'s {len(rows)} pairs is the same: "
            "nothing to rank by"
        )


def _unusable(task: Any, problem: str) -> InputError:
    """Why a task's data cannot be used; for local files, the line and the column."""
    folder = Path(task.metadata.dataset["path"])
    for file in sorted(folder.glob("*.jsonl")):
        for row in read_rows(file, columns(task)):
            row_problem = row.problem or _value_problem(row.fields or {}, columns(task))
            if row_problem:
                return InputError(shortened(f"{file}: {row.place} {row_problem}"))
    message = f"cannot use the data of {task.metadata.name} ({folder}); "
    return InputError(shortened(f"{message}without the hub, give `data_dir`: {problem}"))


def _value_problem(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """Why a row's values cannot be used, as the rest of a sentence on it; empty when they can."""
    for name in names:
        value = fields[name]
        if value is None:
            return f"has nothing in the column {name!r}"
        if name == "score" and not _is_number(value):
            kind = "no finite number" if isinstance(value, float) else "no number"
            return f"has the score {shown(value)}, {kind}"
    return ""
