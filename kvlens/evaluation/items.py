"""Items: mteb's score of a task, and the items that it is made of."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.evaluation.data import load_data
from kvlens.evaluation.significance import statistic
from kvlens.evaluation.tasks import TREC, import_mteb, subset_of, unit
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path


def _run(model: Any, task: Any, store: Any, limit: int | None) -> tuple[float, list[np.ndarray]]:
    """mteb's main score, and per split and subset what it is made of ``[k, n]`` (see `bootstrap`)."""
    from safetensors.numpy import load_file, save_file

    meta, name = model.mteb_model_meta, task.metadata.name
    parts = [(split, subset) for split in task.eval_splits for subset in task.hf_subsets]
    kept = store.get_task_result_path(name, meta).with_name(f"{name}.items.safetensors")
    result = store.load_task_result(name, meta) if kept.exists() else None
    if (
        result is None
        or result.dataset_revision != task.metadata.revision
        or not _mains(result).keys() >= set(parts)
    ):
        load_data(task, limit)
        kept.unlink(missing_ok=True)  # of another revision of the data, should this run be stopped
        # Clustering draws its texts from these: every method gets the same ones.
        fresh, ranked, told = type(task)(), {}, {}
        task.rng_state, task.np_rng = fresh.rng_state, fresh.np_rng

        def keep(scores: Any, *args: Any, hf_split: str, hf_subset: str) -> Any:
            ranked[hf_split, hf_subset] = scores
            return type(task).task_specific_scores(
                task, scores, *args, hf_split=hf_split, hf_subset=hf_subset
            )

        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options: dict[str, Any] = {
                "cache": store,
                "overwrite_strategy": "always",
                "co2_tracker": False,
            }
            options["encode_kwargs"] = {"batch_size": 32, "show_progress_bar": False}
            if unit(task) == "queries":
                task.task_specific_scores = (
                    keep  # the hook that mteb calls with every query's scores
                )
            else:
                options["prediction_folder"] = place
            import_mteb().evaluate(model, task, show_progress_bar=False, **options)
            if unit(task) != "queries":
                told = json.loads(
                    (Path(place) / task.prediction_file_name).read_text(encoding="utf-8")
                )
        made, result = {}, store.load_task_result(name, meta)  # as written: rounded
        for split, subset in parts:
            own = ranked[split, subset] if ranked else told[subset][split]
            made[f"{split}/{subset}"] = _items(
                task, split, subset, _mains(result)[split, subset], own
            )
        with atomic_path(kept) as temporary:
            save_file(made, temporary)
    found = load_file(kept)
    items = [found[f"{split}/{subset}"] for split, subset in parts]
    mains = [float(_mains(result)[part]["main_score"]) for part in parts]
    if not np.isfinite(mains).all():
        raise InputError(
            f"mteb's score of {name} is not a number; the texts may all have one embedding"
        )
    again = [
        float(statistic(x, np.ones((1, x.shape[1]), int), task.metadata.main_score)[0])
        for x in items
    ]
    # mteb writes six digits, five of what it averages over queries.
    if not np.allclose(again, mains, rtol=0, atol=1e-5 if unit(task) == "queries" else 1e-6):
        raise RuntimeError(
            f"{name}: {again} from single items, but {mains} by mteb: please report this"
        )
    return float(np.mean(mains)), items


def _mains(result: Any) -> dict[tuple[str, str], Any]:
    return {
        (split, scores["hf_subset"]): scores
        for split, found in result.scores.items()
        for scores in found
    }


def _items(task: Any, split: str, subset: str, scores: Any, own: Any) -> np.ndarray:
    """What `statistic` needs, float64 ``[k, n]``, from mteb's own predictions."""
    main, data = task.metadata.main_score, subset_of(task, subset)[split]
    if unit(task) == "queries":
        kind, _, k = main.partition("_at_")
        return np.array(
            [[own[query][f"{TREC[kind]}_{k}"] for query in sorted(own)]], dtype=np.float64
        )
    if main == "cosine_spearman":
        return np.array([own["cosine_scores"], data["score"]], dtype=np.float64)
    if main.endswith("_ap"):
        labels = data[task.label_column_name]
        rows = {name: np.array(own[f"{name}_scores"]) for name in ("similarity", "cosine", "dot")}
        rows |= {name: -np.array(own[f"{name}_distances"]) for name in ("manhattan", "euclidean")}
        chosen = list(rows.values()) if main == "max_ap" else [rows[main.removesuffix("_ap")]]
        return np.array([labels[0] if len(data) == 1 else labels, *chosen], dtype=np.float64)
    if unit(task) == "test texts":
        return (np.array(own) == np.array(data[task.label_column_name])).mean(0, keepdims=True)
    if unit(task) == "experiments":
        return np.array([[one[main] for one in scores["scores_per_experiment"]]], dtype=np.float64)
    levels = scores["v_measures"]
    return np.array([np.concatenate(list(levels.values())) if isinstance(levels, dict) else levels])
