"""Task score: mteb's main score of one model on one task, with the items that it is made of.

Both are kept beside one another in mteb's layout of results, and found again by a later run.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save_file

from kvlens.evaluation.data import load_data
from kvlens.evaluation.items import items_of
from kvlens.evaluation.kinds import import_mteb, unit
from kvlens.evaluation.significance import statistic
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path

Place = tuple[str, str]  # split, subset


@dataclass(frozen=True)
class TaskScore:
    """mteb's main score of one model on one task.

    Attributes:
        value: From 0 to 1, the mean over splits and subsets.
        items: What it is made of in each split and subset (see `items.items_of`).
    """

    value: float
    items: tuple[Float[np.ndarray, "k _"], ...]

    @property
    def n_items(self) -> int:
        """How many items there are in all splits and subsets."""
        return sum(x.shape[1] for x in self.items)


def score_task(model: Any, task: Any, results: Any, limit: int | None) -> TaskScore:
    """Score a model on a task, or find the score of an earlier run.

    Args:
        model: A model of mteb (see `adapter.mteb_encoder`).
        task: A task of mteb; its data is loaded only when it has to be.
        results: mteb's ResultCache.
        limit: Only so many items (see `data.load_data`).

    Raises:
        InputError: For data that cannot be used, and a score that is not a number.
        RuntimeError: When the items do not make up mteb's score.
    """
    name = task.metadata.name
    meta = model.mteb_model_meta
    places = [(split, subset) for split in task.eval_splits for subset in task.hf_subsets]
    file = results.get_task_result_path(name, meta).with_name(f"{name}.items.safetensors")
    result = results.load_task_result(name, meta) if file.exists() else None
    if result is None or not _is_of(result, task, places):
        load_data(task, limit)
        file.unlink(missing_ok=True)  # of another revision of the data, should this run be stopped
        predictions = _predict(model, task, results)
        result = results.load_task_result(name, meta)  # as written: rounded
        _save_items(file, task, _by_place(result), {key: predictions[key] for key in places})
    scores = _by_place(result)
    arrays = load_file(file)
    items = tuple(arrays["/".join(place)] for place in places)
    mains = [float(scores[place]["main_score"]) for place in places]
    _check(task, mains, items)
    return TaskScore(float(np.mean(mains)), items)


def _is_of(result: Any, task: Any, places: list[Place]) -> bool:
    """Whether a stored result is of this state of the data, and has all splits and subsets."""
    same_data = result.dataset_revision == task.metadata.revision
    return same_data and _by_place(result).keys() >= set(places)


def _by_place(result: Any) -> dict[Place, Any]:
    """The scores of mteb's result, by split and subset."""
    return {
        (split, scores["hf_subset"]): scores
        for split, subsets in result.scores.items()
        for scores in subsets
    }


def _predict(model: Any, task: Any, results: Any) -> dict[Place, Any]:
    """Let mteb score the task, which writes its result; give its predictions."""
    # Clustering draws its texts from these: every method gets the same ones.
    fresh = type(task)()
    task.rng_state = fresh.rng_state
    task.np_rng = fresh.np_rng
    options = {
        "cache": results,
        "overwrite_strategy": "always",
        "co2_tracker": False,
        "encode_kwargs": {"batch_size": 32, "show_progress_bar": False},
        "show_progress_bar": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if unit(task) == "queries":
            return _predict_queries(model, task, options)
        return _predict_in_file(model, task, options)


def _predict_queries(model: Any, task: Any, options: dict[str, Any]) -> dict[Place, Any]:
    """Of retrieval: the scores of every query, which mteb hands to a method of the task."""
    by_place: dict[Place, Any] = {}

    def keep(scores: Any, *args: Any, hf_split: str, hf_subset: str) -> Any:
        by_place[hf_split, hf_subset] = scores
        return type(task).task_specific_scores(
            task, scores, *args, hf_split=hf_split, hf_subset=hf_subset
        )

    task.task_specific_scores = keep
    import_mteb().evaluate(model, task, **options)
    return by_place


def _predict_in_file(model: Any, task: Any, options: dict[str, Any]) -> dict[Place, Any]:
    with tempfile.TemporaryDirectory() as folder:
        import_mteb().evaluate(model, task, prediction_folder=folder, **options)
        text = (Path(folder) / task.prediction_file_name).read_text(encoding="utf-8")
    subsets = json.loads(text)
    return {
        (split, subset): subsets[subset][split]
        for subset in task.hf_subsets
        for split in task.eval_splits
    }


def _save_items(
    file: Path, task: Any, scores: dict[Place, Any], predictions: dict[Place, Any]
) -> None:
    items = {
        f"{split}/{subset}": items_of(task, split, subset, scores[split, subset], prediction)
        for (split, subset), prediction in predictions.items()
    }
    with atomic_path(file) as temporary:
        save_file(items, temporary)


def _check(task: Any, mains: list[float], items: tuple[np.ndarray, ...]) -> None:
    """Hold mteb's scores against what the items make up."""
    name = task.metadata.name
    if not np.isfinite(mains).all():
        raise InputError(
            f"mteb's score of {name} is not a number; the texts may all have one embedding"
        )
    again = []
    for x in items:
        once_each = np.ones((1, x.shape[1]), dtype=int)
        again.append(float(statistic(x, once_each, task.metadata.main_score)[0]))
    # mteb writes six digits, five of what it averages over queries.
    tolerance = 1e-5 if unit(task) == "queries" else 1e-6
    if not np.allclose(again, mains, rtol=0, atol=tolerance):
        raise RuntimeError(
            f"{name}: {again} from single items, but {mains} by mteb: please report this"
        )
