"""Kinds: which of mteb's kinds of task are scored, and what an item is on each."""

from __future__ import annotations

import logging
from typing import Any, Literal

from kvlens.store.errors import InputError

Unit = Literal["pairs", "queries", "test texts", "experiments", "clusterings"]

# mteb's names of metrics -> those of pytrec_eval, which it computes them with.
TREC = {
    "ndcg": "ndcg_cut",
    "map": "map_cut",
    "recall": "recall",
    "precision": "P",
    "hit_rate": "success",
}
AVERAGE_PRECISIONS = ("max_ap", "similarity_ap", "cosine_ap")

# Where mteb's kinds of task name the columns that they read.
_COLUMNS = (
    "column_names",
    "input_column_name",
    "input1_column_name",
    "input2_column_name",
    "label_column_name",
)


class Unsupported(InputError):
    """A kind of task that kvlens does not evaluate."""


def import_mteb() -> Any:
    """The package mteb, without its chatter.

    Raises:
        InputError: When it is not installed, or cannot use its cache.
    """
    try:
        import mteb
    except ImportError as error:
        raise InputError("evaluation needs mteb: pip install 'kvlens[eval]'") from error
    except OSError as error:  # it makes its cache when it is imported
        raise InputError(
            f"mteb cannot use its cache {error.filename} ({error.strerror}): "
            "set MTEB_CACHE to a folder that can be written"
        ) from error
    logging.getLogger("mteb").setLevel(logging.ERROR)
    # What it logs as an error it raises too, and our line says it.
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
    return mteb


def unit(task: Any) -> Unit:
    """What an item of this task of mteb is: what its score is made of, and what is resampled.

    Raises:
        Unsupported: For a kind of task, or a main score, that kvlens does not evaluate.
    """
    item = _text_unit(task) if task.modalities == ["text"] else None
    if item is None:
        kind, main = task.metadata.type, task.metadata.main_score
        raise Unsupported(
            f"{task.metadata.name} is of the kind {kind} ({main}), which is not supported"
        )
    return item


def _text_unit(task: Any) -> Unit | None:
    from mteb import abstasks

    main = task.metadata.main_score
    clustering = abstasks.AbsTaskClustering | abstasks.AbsTaskClusteringLegacy
    if isinstance(task, abstasks.AbsTaskSTS) and main == "cosine_spearman":
        return "pairs"
    if isinstance(task, abstasks.AbsTaskPairClassification) and main in AVERAGE_PRECISIONS:
        return "pairs"
    if isinstance(task, abstasks.AbsTaskRetrieval) and main.partition("_at_")[0] in TREC:
        return "queries"
    if isinstance(task, abstasks.AbsTaskClassification):
        return "test texts" if _judges_every_text(task) else "experiments"
    if isinstance(task, clustering) and main == "v_measure":
        return "clusterings"
    return None


def _judges_every_text(task: Any) -> bool:
    """Whether a classification's score is the mean, over its test texts, of right or wrong."""
    plain = task.metadata.type == "Classification" and not task.is_cross_validation
    return plain and task.metadata.main_score == "accuracy"


def columns(task: Any) -> list[str]:
    """The columns that a task reads; of a task on pairs, the last is what judges a pair."""
    names: list[str] = []
    for attribute in _COLUMNS:
        value = getattr(task, attribute, ())
        names += [value] if isinstance(value, str) else value
    if task.metadata.type == "STS" and unit(task) == "pairs":
        names.append("score")
    return names


def splits_of(task: Any, subset: str) -> Any:
    """The splits of a subset of a loaded task, by name."""
    return task.dataset.get(subset, task.dataset)
