"""The repository's saved results, with scores and sweeps made up: its own may change."""

import shutil
from pathlib import Path

import numpy as np

import kvlens
from kvlens.evaluation.score import Score
from kvlens.evaluation.scores import Scores
from kvlens.store.provenance import versions
from kvlens.studies.comparison import Interval
from kvlens.studies.decision import Decision, Judged, Proof, RandomWindow
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


def made_up_decision(layer_set, kind):
    """One of each origin, with and without re-routing."""
    rows = [
        _judged(("window", "best window"), layer_set.layers, "zscore", 80.0),
        _judged(("paper", "lowest-k"), layer_set.layers, None, 78.0),
        _judged(("no re-routing",), (), "zscore", 77.0),
        _judged(("another method",), (), None, 60.0),
    ]
    return Decision(
        model=layer_set.model,
        kind=kind,
        data="made up",
        n=(400, 2000, 2000),
        n_tried=300,
        rows=tuple(rows),
        random=(_random_window(),),
        proof=Proof(
            rerouted=0,
            plain=2,
            rerouted_score=_around(80.0),
            plain_score=_around(79.0),
            margin=_around(1.0),
        ),
        versions=versions(),
        command="kvlens choose MODEL -o runs/MODEL/decision.json",
    )


def _judged(origins, layers, post, score):
    layers_text = "+".join(map(str, layers)) or "none"
    return Judged(
        origins=origins,
        method=f"kv_embedding:layers={layers_text}:document=kv-document:pooling=hybrid",
        post=post,
        layers=layers,
        coarse=score - 1,
        score=_around(score),
        gain=_around(score - 77),
        regret=_around(80 - score),
        alignment=None,
        uniformity=None,
    )


def _around(value):
    return Interval(value=value, low=value - 0.5, high=value + 0.5)


def _random_window():
    return RandomWindow(
        width=4,
        bias=1.0,
        queries="all",
        pooling="hybrid",
        n=27,
        mean=70.0,
        spread=5.0,
        best=78.0,
        plain=76.0,
    )


def made_up_data(folder):
    """A copy of figures/data in `folder`, where scores, sweeps and decisions are made up."""
    place = shutil.copytree(HOME / "data", folder / "data")
    for seed, model in enumerate(MODELS):
        layer_set = saved_layer_set(model)
        made_up_scores(layer_set, seed).save(place / f"scores_{model}.json")
        made_up_lengths(layer_set).save(place / f"lengths_{model}.json")
        made_up_sweep(layer_set).save(place / f"sweep_{model}.json")
        for kind, name in (("pairs", "decision-pairs"), ("passages", "decision")):
            made_up_decision(layer_set, kind).save(place / f"{name}_{model}.json")
        (place / f"longest_{model}.json").unlink(missing_ok=True)
    # A further length, of fewer methods.
    longest = made_up_scores(layer_set, 0, LENGTH_LABELS[:2], ("LongWikipedia@4096",))
    longest.save(place / f"longest_{model}.json")
    return place
