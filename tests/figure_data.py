"""The repository's saved results, with scores and sweeps made up: its own may change."""

import shutil
from pathlib import Path

import numpy as np

import kvlens
from kvlens.evaluation.scores import Score, Scores
from kvlens.store.provenance import versions
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.windows import Window

HOME = Path(__file__).parents[1] / "figures"
MODELS = ("smollm2-135m", "gemma3-270m")
TASKS = ("STSBenchmark", "SICK-R", "STS16", "Banking77Classification")
METHODS = (
    "kv_embedding",
    "kv_embedding (no re-routing)",
    "mean",
    "echo",
    "prompt_eol",
    "last_token",
    "aligned_wva",
)
LABELS = tuple(
    f"{name}{post}"
    for post in ("", " + whiten", " + zscore")
    for name in (*METHODS, "token_prepending")
)
LENGTH_LABELS = tuple(f"{name}{post}" for post in ("", " + zscore") for name in METHODS[:4])
LENGTH_TASKS = ("LongWikipedia@1024", "LongWikipedia@256")


def saved_layer_set(model):
    return kvlens.LayerSet.load(HOME / "data" / f"layers_{model}.json")


def made_up_scores(layer_set, seed, labels=LABELS, tasks=TASKS):
    """A full table: labels on tasks, but for one cell that is not there yet unless seed is 0."""
    values = 100 * np.random.default_rng(seed).uniform(0.3, 0.8, size=(len(labels), len(tasks)))
    cells = [
        _score(label, task, values[i, j])
        for i, label in enumerate(labels)
        for j, task in enumerate(tasks)
    ]
    return Scores(
        model=layer_set.model,
        max_length=512,
        scores=tuple(cells[:-1] if seed else cells),
        versions=versions(),
        command="kvlens evaluate MODEL -o runs/MODEL",
    )


def _score(label, task, value):
    return Score(
        method=label.split()[0],
        label=label,
        post=label.partition(" + ")[2] or None,
        settings={},
        task=task,
        split="test",
        metric="accuracy" if "77" in task else "cosine_spearman",
        value=value,
        low=value - 2,
        high=value + 1,
        n=1379,
        unit="pairs",
        p=None,
        difference=None,
        limited=False,
    )


def made_up_lengths(layer_set):
    return made_up_scores(layer_set, 0, LENGTH_LABELS, LENGTH_TASKS)


def made_up_sweep(layer_set):
    """Every window of 1 and 4 layers."""
    n_layers = layer_set.model.n_layers
    windows = [_window(first, width) for width in (1, 4) for first in range(n_layers - width + 1)]
    return Sweep(
        model=layer_set.model,
        prompt=layer_set.prompts.document,
        pooling="hybrid",
        position="keep",
        data="STSBenchmark validation",
        n_pairs=300,
        plain=60.5,
        plain_low=56,
        plain_high=64,
        plain_cosines=(),
        human=(),
        windows=tuple(windows),
        versions=versions(),
        command="kvlens sweep MODEL -o runs/MODEL/sweep.json",
    )


def _window(first, width):
    return Window(
        first=first,
        width=width,
        layers=tuple(range(first, first + width)),
        bias=1.0,
        spearman=60 + np.sin(first + width),
        low=57,
        high=63,
        cosines=(),
    )


def made_up_data(folder):
    """A copy of figures/data in `folder`, where scores and sweeps are made up."""
    place = shutil.copytree(HOME / "data", folder / "data")
    for seed, model in enumerate(MODELS):
        layer_set = saved_layer_set(model)
        made_up_scores(layer_set, seed).save(place / f"scores_{model}.json")
        made_up_lengths(layer_set).save(place / f"lengths_{model}.json")
        made_up_sweep(layer_set).save(place / f"sweep_{model}.json")
        (place / f"longest_{model}.json").unlink(missing_ok=True)
    # A further length, of fewer methods.
    longest = made_up_scores(layer_set, 0, LENGTH_LABELS[:2], ("LongWikipedia@4096",))
    longest.save(place / f"longest_{model}.json")
    return place
