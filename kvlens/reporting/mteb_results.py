"""mteb's results: what an evaluation filed, read without mteb, which takes five seconds to import.

A result is ``results/MODEL/REVISION/experiments/NAME/TASK.json``, with the model's facts and the
single items beside it; see `kvlens.evaluation.task_score`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from safetensors import SafetensorError

from kvlens.evaluation.items_file import read_items, seal_of
from kvlens.evaluation.score import Score
from kvlens.store.errors import one_line

META = "model_meta.json"
REVISION_DIGITS = 40  # of a model's revision that mteb files
SCORE_TOLERANCE = 1e-6  # of scores x 100


@dataclass(frozen=True)
class MtebResult:
    """One method on one task.

    Attributes:
        name: of its file inside the folder of results.
        task: the task's name.
        revision: of the model, the first 40 digits of its hash.
        method: the method's name.
        post: the kind of post-processing, or None.
        settings: the method's.
        limited: whether it is a quick look at a part of the task.
        csls: whether queries ranked documents by CSLS.
        versions: package -> version.
        scores: main score x 100 of each subset, by split.
        is_sealed: whether its hashes tell that the items beside it are its own.
    """

    name: str
    task: str
    revision: str
    method: str
    post: str | None
    settings: dict[str, Any]
    limited: bool
    csls: bool
    versions: dict[str, str]
    scores: dict[str, list[float]]
    is_sealed: bool

    def backs(self, row: Score) -> bool:
        """Whether a row of a score table says what this result says."""
        splits = row.split.split(",")
        mains = [main for split in splits for main in self.scores.get(split, [])]
        same = (self.task, self.method, self.post, self.settings, self.csls) == (
            row.task,
            row.method,
            row.post,
            row.settings,
            row.csls,
        )
        return same and bool(mains) and abs(fmean(mains) - row.value) <= SCORE_TOLERANCE


@dataclass(frozen=True)
class FiledResults:
    """What is in mteb's folder of a run.

    Attributes:
        results: those that are whole.
        problems: what is wrong with each other one, in a line.
    """

    results: tuple[MtebResult, ...]
    problems: tuple[str, ...]

    @property
    def unsealed(self) -> int:
        """How many carry no hash, as those of version 0.1.0."""
        return sum(not result.is_sealed for result in self.results)

    @property
    def package_versions(self) -> list[tuple[str, str]]:
        """Every package with every version that one of them was made with."""
        return sorted({item for result in self.results for item in result.versions.items()})


def read_results(folder: Path) -> FiledResults:
    """Every result in mteb's folder.

    Args:
        folder: ``results`` of a run.
    """
    results = []
    problems = []
    for path in sorted(folder.glob("kvlens__*/*/experiments/*/*.json")):
        if path.name == META:
            continue
        name = str(path.relative_to(folder))
        try:
            results.append(_result(path, name))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {one_line(error)}"
            problems.append(f"{name}: not readable: {reason}")
    return FiledResults(tuple(results), tuple(problems))


def _result(path: Path, name: str) -> MtebResult:
    result = json.loads(path.read_text(encoding="utf-8"))
    meta = json.loads(path.with_name(META).read_text(encoding="utf-8"))
    scores = {
        split: [100 * float(subset["main_score"]) for subset in subsets]
        for split, subsets in result["scores"].items()
    }
    return MtebResult(
        name=name,
        task=str(result["task_name"]),
        revision=str(meta["revision"]),
        method=meta["experiment_kwargs"]["method"],
        post=meta["experiment_kwargs"]["post"],
        settings=meta["loader_kwargs"]["settings"],
        limited="limit" in meta["experiment_kwargs"],
        csls="csls" in meta["experiment_kwargs"],
        versions={name: str(each) for name, each in meta["loader_kwargs"]["versions"].items()},
        scores=scores,
        is_sealed=_is_sealed(path, result["scores"]),
    )


def _is_sealed(path: Path, scores: dict[str, Any]) -> bool:
    """Whether hashes tell that the items beside a result are its own; ValueError if they aren't."""
    seal, arrays = read_items(path.with_suffix(".items.safetensors"))
    places = {f"{split}/{each['hf_subset']}" for split, rows in scores.items() for each in rows}
    if not places <= arrays.keys():
        raise ValueError("the items beside it are of other splits or subsets")
    if seal and seal != seal_of(path, arrays):
        raise ValueError("the items beside it are of another run, or one of both is damaged")
    return bool(seal)
