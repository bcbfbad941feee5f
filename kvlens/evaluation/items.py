"""Items: what mteb's main score is made of, read off its own predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kvlens.evaluation.kinds import TREC, splits_of, unit


def items_of(
    task: Any, split: str, subset: str, scores: Any, predictions: Any
) -> Float[np.ndarray, "k n"]:
    """What `significance.statistic` needs of each item of a task that mteb has scored.

    Args:
        task: A task of mteb, with its data.
        split: Its split.
        subset: Its subset.
        scores: What mteb's result says of these.
        predictions: What mteb predicted for these; of retrieval, its scores of every query.

    Returns:
        Of retrieval, the metric of each query; of STS, the cosine and the human score of each pair;
        of pair classification, the label and the similarities of each pair; of classification, the
        share of experiments that are right for each test text, or else the score of each
        experiment; of clustering, the V-measure of each.
    """
    main = task.metadata.main_score
    item = unit(task)
    if item == "queries":
        return _row(_query_metrics(predictions, main))
    rows = splits_of(task, subset)[split]
    if main == "cosine_spearman":
        return np.array([predictions["cosine_scores"], rows["score"]], dtype=np.float64)
    if item == "pairs":
        return _labelled_pairs(rows[task.label_column_name], predictions, main)
    if item == "test texts":
        right = np.array(predictions) == np.array(rows[task.label_column_name])
        return right.mean(0, keepdims=True)
    if item == "experiments":
        return _row([experiment[main] for experiment in scores["scores_per_experiment"]])
    return _row(_v_measures(scores["v_measures"]))


def _row(values: Any) -> Float[np.ndarray, "1 n"]:
    return np.array([values], dtype=np.float64)


def _query_metrics(predictions: Any, main: str) -> list[float]:
    """The main score of each query, in the order of their ids."""
    kind, _, k = main.partition("_at_")
    metric = f"{TREC[kind]}_{k}"
    return [predictions[query][metric] for query in sorted(predictions)]


def _labelled_pairs(labels: Any, predictions: Any, main: str) -> Float[np.ndarray, "k n"]:
    """Labels, then a row for each similarity that the average precision may be taken by."""
    similarities = {
        name: np.array(predictions[f"{name}_scores"]) for name in ("similarity", "cosine", "dot")
    }
    for name in ("manhattan", "euclidean"):
        similarities[name] = -np.array(predictions[f"{name}_distances"])
    chosen = [similarities[main.removesuffix("_ap")]] if main != "max_ap" else similarities.values()
    return np.array([labels, *chosen], dtype=np.float64)


def _v_measures(measures: Any) -> Any:
    """One row of V-measures; mteb has them by level where clusterings are nested."""
    if isinstance(measures, dict):
        return np.concatenate(list(measures.values()))
    return measures
