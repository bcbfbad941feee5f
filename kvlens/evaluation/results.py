"""Results: mteb's result of a model on a task, and the items beside it: one pair, of one run.

The items carry the hash of the result and their own, so that a pair that two runs made, or a disk
damaged, is never used: it counts as missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from kvlens.evaluation.items import items_of
from kvlens.evaluation.items_file import read_items, seal_of
from kvlens.evaluation.kinds import import_mteb
from kvlens.store.files import (
    atomic_path,
    scratch_folder,
    unwritable,
    writable_file,
    write_text,
)
from kvlens.store.notices import notice

RUN_SETTINGS = "run_settings.jsonl"  # mteb's, one for all tasks of a model
MODEL_META = "model_meta.json"
HUBNESS = "hubness/"  # before a place: its number, beside its items

Place = tuple[str, str]  # split, subset
Items = tuple[Float[np.ndarray, "k _"], ...]


@dataclass(frozen=True)
class Prediction:
    """What mteb predicted in one split and subset.

    Attributes:
        of_items: What `items.items_of` reads.
        hubness: Of retrieval, see `hubness.hubness`.
    """

    of_items: Any
    hubness: float | None = None


@dataclass(frozen=True)
class TaskScore:
    """mteb's main score of one model on one task.

    Attributes:
        mains: From 0 to 1, of each split and subset.
        items: What it is made of in each (see `items.items_of`).
        hubness: Of retrieval, the mean over splits and subsets. None where it is undefined, and in
            results of before it was measured.
    """

    mains: tuple[float, ...]
    items: Items
    hubness: float | None = None

    @property
    def value(self) -> float:
        """The mean over splits and subsets."""
        return float(np.mean(self.mains))

    @property
    def n_items(self) -> int:
        """How many items there are in all splits and subsets."""
        return sum(x.shape[1] for x in self.items)


class Damaged(ValueError):
    """A pair of files that is none: what was written is not what is there."""


@dataclass(frozen=True)
class Results:
    """Where the result of a model on a task is kept, and its items.

    Attributes:
        task: A task of mteb.
        meta: The model's ModelMeta, which names the folder.
        cache: mteb's ResultCache.
    """

    task: Any
    meta: Any
    cache: Any

    @property
    def file(self) -> Path:
        """Mteb's own."""
        return self.cache.get_task_result_path(self.task.metadata.name, self.meta)

    @property
    def items_file(self) -> Path:
        """Ours, beside it."""
        return self.file.with_suffix(".items.safetensors")

    @property
    def places(self) -> list[Place]:
        """The splits and subsets that are scored, in their order."""
        subsets = self.task.hf_subsets
        return [(split, subset) for split in self.task.eval_splits for subset in subsets]

    def check_writable(self) -> None:
        """Raise InputError where the files cannot be written."""
        for file in (self.file, self.items_file):
            writable_file(file)

    def read(self) -> tuple[TaskScore, bool]:
        """The pair.

        Returns:
            The score, and whether the hashes show that it is the pair that was written. Files of
            version 0.1.0 have none.

        Raises:
            FileNotFoundError: When there is no pair of this state of the data.
            Damaged: When there is, and it cannot be used.
        """
        if not self.file.exists() or not self.items_file.exists():
            raise FileNotFoundError(self.file)
        try:
            seal, arrays = read_items(self.items_file)
            if seal and seal != seal_of(self.file, arrays):
                raise Damaged("not of the run that wrote it")
            scores = self._scores()
            keys = ["/".join(place) for place in self.places]
            mains = tuple(_main_score(scores[place]) for place in self.places)
            items = tuple(_checked(arrays[key]) for key in keys)
            return TaskScore(mains, items, _mean_hubness(arrays, keys)), bool(seal)
        except (FileNotFoundError, Damaged):
            raise
        except Exception as error:  # of mteb, pydantic, safetensors, by what they meet
            raise Damaged(str(error)) from error

    def _scores(self) -> dict[Place, Any]:
        """Mteb's scores; raises FileNotFoundError where they are of other data, or not all."""
        result = _task_result(self.file)
        scores = by_place(result)
        is_of_this_data = result.dataset_revision == self.task.metadata.revision
        if not is_of_this_data or not scores.keys() >= set(self.places):
            raise FileNotFoundError(self.file)
        return scores

    @contextmanager
    def written(self) -> Iterator[Any]:
        """A place for mteb to write its result, which replaces the old one when it is whole.

        Yields:
            mteb's ResultCache.

        Raises:
            InputError: When the place cannot be written.
        """
        try:
            with scratch_folder(self.file) as scratch:
                cache = import_mteb().ResultCache(scratch)
                yield cache
                new = Results(self.task, self.meta, cache).file
                self._merge_settings(new.with_name(RUN_SETTINGS))
                for name in (MODEL_META, self.file.name):
                    os.replace(new.with_name(name), self.file.with_name(name))
        except OSError as error:
            raise unwritable(self.file, error) from error

    def _merge_settings(self, new: Path) -> None:
        """Put mteb's settings of this run in place of those of an earlier run of the task."""
        file = self.file.with_name(RUN_SETTINGS)
        lines = new.read_text(encoding="utf-8").splitlines()
        try:
            old = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            lines[:0] = [line for line in old if json.loads(line)["task"] != self._name]
        except (ValueError, TypeError, KeyError, RecursionError):
            notice(f"{file} is damaged: it is begun anew")
        write_text(file, "".join(f"{line}\n" for line in lines))

    @property
    def _name(self) -> str:
        return self.task.metadata.name

    def save_items(self, predictions: Mapping[Place, Prediction]) -> None:
        """Write the items of the result that stands there.

        Args:
            predictions: What mteb predicted in each place.

        Raises:
            InputError: When the file cannot be written.
        """
        scores = by_place(_task_result(self.file))  # as written: rounded
        items = {}
        for place in self.places:
            split, subset = place
            predicted = predictions[place]
            made_of = items_of(self.task, split, subset, scores[place], predicted.of_items)
            items["/".join(place)] = np.ascontiguousarray(made_of)
            if predicted.hubness is not None:
                items[HUBNESS + "/".join(place)] = np.array([predicted.hubness])
        with atomic_path(self.items_file) as temporary:
            save_file(items, temporary, seal_of(self.file, items))


def by_place(result: Any) -> dict[Place, Any]:
    """The scores of mteb's result, by split and subset."""
    return {
        (split, scores["hf_subset"]): scores
        for split, subsets in result.scores.items()
        for scores in subsets
    }


def _task_result(file: Path) -> Any:
    from mteb.results import TaskResult

    return TaskResult.from_disk(file)


def _main_score(scores: Any) -> float:
    value = scores["main_score"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Damaged(f"the main score is {value!r}")
    return float(value)


def _mean_hubness(arrays: Mapping[str, np.ndarray], keys: Sequence[str]) -> float | None:
    known = [arrays[HUBNESS + key] for key in keys if HUBNESS + key in arrays]
    if any(each.shape != (1,) or not np.isfinite(each).all() for each in known):
        raise Damaged("the hubness is no number")
    return float(np.mean(known)) if known else None


def _checked(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float64 or array.ndim != 2 or not array.size:
        raise Damaged(f"items of {array.dtype} {array.shape}")
    return array
