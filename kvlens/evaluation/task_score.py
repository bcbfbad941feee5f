"""Task score: mteb's main score of one model on one task, with the items that it is made of.

Both are kept beside one another in mteb's layout of results, and found again by a later run.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from kvlens.evaluation.data import load_data
from kvlens.evaluation.hubness import hubness
from kvlens.evaluation.kinds import import_mteb, splits_of, unit
from kvlens.evaluation.results import Damaged, Place, Prediction, Results, TaskScore
from kvlens.evaluation.significance import has_rows_of, statistic
from kvlens.store.errors import InputError
from kvlens.store.files import remove_abandoned, scratch_folder
from kvlens.store.notices import Notice, notice


def score_task(model: Any, task: Any, cache: Any, limit: int | None) -> TaskScore:
    """Score a model on a task, or find the score of an earlier run.

    Args:
        model: A model of mteb (see `adapter.mteb_encoder`).
        task: A task of mteb; its data is loaded only when it has to be.
        cache: mteb's ResultCache.
        limit: Only so many items (see `data.load_data`).

    Raises:
        InputError: For data that cannot be used, a score that is not a number, and a place that
            cannot be written.
        RuntimeError: When the items do not make up mteb's score.
    """
    results = Results(task, model.mteb_model_meta, cache)
    remove_abandoned(results.file.parent)
    score = found(results)
    if score is None:
        results.check_writable()
        load_data(task, limit)
        with results.written() as scratch:
            predictions = _predict(model, task, scratch)
        results.save_items(predictions)
        score, _ = results.read()
    name = task.metadata.name
    if not np.isfinite(score.mains).all():
        raise InputError(
            f"mteb's score of {name} is not a number; the texts may all have one embedding"
        )
    again = _from_items(task, score)
    if not _agree(task, again, score):
        raise RuntimeError(
            f"{name}: {again} from single items, but {score.mains} by mteb: please report this"
        )
    return score


def found(results: Results) -> TaskScore | None:
    """The score of an earlier run; None, with a warning, where it is damaged."""
    try:
        score, is_sealed = results.read()
        with np.errstate(all="ignore"):
            is_whole = _agree(results.task, _from_items(results.task, score), score)
        is_undefined = not np.isfinite(score.mains).all()  # as it came, where the seal says so
        if not is_whole and not (is_sealed and is_undefined):
            raise Damaged("the items do not make up the score")
    except FileNotFoundError:
        return None
    except Damaged:
        notice(f"{results.file} is damaged: it is computed again")
        return None
    return score


def _from_items(task: Any, score: TaskScore) -> list[float]:
    """Mteb's scores, made up from single items; raises Damaged where these are not of the task."""
    metric = task.metadata.main_score
    again = []
    for x in score.items:
        if not has_rows_of(metric, x):
            raise Damaged(f"{len(x)} rows of items")
        once_each = np.ones((1, x.shape[1]), dtype=int)
        again.append(float(statistic(x, once_each, metric)[0]))
    return again


def _agree(task: Any, again: list[float], score: TaskScore) -> bool:
    # mteb writes six digits, five of what it averages over queries.
    tolerance = 1e-5 if unit(task) == "queries" else 1e-6
    return np.allclose(again, score.mains, rtol=0, atol=tolerance)


def _predict(model: Any, task: Any, cache: Any) -> dict[Place, Prediction]:
    """Let mteb score the task, which writes its result; give its predictions."""
    # Clustering draws its texts from these: every method gets the same ones.
    fresh = type(task)()
    task.rng_state = fresh.rng_state
    task.np_rng = fresh.np_rng
    options = {
        "cache": cache,
        "overwrite_strategy": "always",
        "co2_tracker": False,
        "encode_kwargs": {"batch_size": 32, "show_progress_bar": False},
        "show_progress_bar": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", Notice)
        if unit(task) == "queries":
            return _predict_queries(model, task, options)
        return _predict_in_file(model, task, options)


def _predict_queries(model: Any, task: Any, options: dict[str, Any]) -> dict[Place, Prediction]:
    """Of retrieval: the scores of every query, which mteb hands to a method of the task."""
    by_place: dict[Place, Prediction] = {}

    def keep(scores: Any, judged: Any, rankings: Any, hf_split: str, hf_subset: str) -> Any:
        n_documents = len(splits_of(task, hf_subset)[hf_split]["corpus"])
        by_place[hf_split, hf_subset] = Prediction(scores, hubness(rankings, n_documents))
        return type(task).task_specific_scores(
            task, scores, judged, rankings, hf_split=hf_split, hf_subset=hf_subset
        )

    task.task_specific_scores = keep
    import_mteb().evaluate(model, task, **options)
    return by_place


def _predict_in_file(model: Any, task: Any, options: dict[str, Any]) -> dict[Place, Prediction]:
    with scratch_folder(options["cache"].cache_path / "predictions") as folder:
        import_mteb().evaluate(model, task, prediction_folder=folder, **options)
        text = (folder / task.prediction_file_name).read_text(encoding="utf-8")
    subsets = json.loads(text)
    return {
        (split, subset): Prediction(subsets[subset][split])
        for subset in task.hf_subsets
        for split in task.eval_splits
    }
