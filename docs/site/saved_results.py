"""The saved results of figures/data, for pages and for the numbers on them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import kvlens
from kvlens.evaluation.score import Score

DATA = Path(__file__).parents[2] / "figures" / "data"
MODELS = {"smollm2-135m": "SmolLM2-135M", "gemma3-270m": "Gemma 3 270M"}  # the pages' order
SCORES = ("scores", "posts", "retrieval", "lengths", "longest")


@cache
def result(kind: str, model: str) -> Any:
    """One saved result; raises InputError where it is not there."""
    return kvlens.open(DATA / f"{kind}_{model}.json")


def models_with(kind: str) -> list[str]:
    """The models that have a kind of result: those of the pages first."""
    found = {path.stem.partition("_")[2] for path in DATA.glob(f"{kind}_*.json")}
    return [name for name in MODELS if name in found] + sorted(found - MODELS.keys())


def title(model: str) -> str:
    """The model's name in a heading."""
    return MODELS.get(model, model)


def score(model: str, task: str, label: str) -> Score:
    """The score of one row on one task, whichever table holds it.

    Raises:
        LookupError: no table does.
    """
    for kind in SCORES:
        if model in models_with(kind):
            for entry in result(kind, model).scores:
                if (entry.task, entry.label) == (task, label):
                    return entry
    raise LookupError(f"no score of {label!r} on {task} for {model}")
