"""Points of known dimension, and a trace of such."""

import numpy as np
import torch
from profile_cases import make_model

from kvlens.dimension.estimation import estimate_points
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.trace import Points, Trace


def ball(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / d)


def sphere(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng([seed, n, d]).standard_normal((n, d + 1))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def swiss_roll(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n])
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.c_[angle * np.cos(angle), 21 * rng.random(n), angle * np.sin(angle)]


def embed(points: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """The points, isometrically, in `width` dimensions; one coordinate has the offset 1e3."""
    noise = np.random.default_rng(seed).standard_normal((width, points.shape[1]))
    wide = points @ np.linalg.qr(noise)[0].T
    wide[:, 5] += 1e3
    return wide


def read(points: np.ndarray) -> dict[str, float]:
    """The ID by estimator."""
    estimates, _ = estimate_points(points)
    return {name: estimate.value for name, estimate in estimates.items()}


def trace_of_balls(points: Points = "last", n: int = 120, n_layers: int = 3) -> Trace:
    """A trace of balls in 3, 4, 5 dimensions; the keys of layer 0 are the same in every text."""
    shape = {"n_heads": 2, "n_kv_heads": 1, "d_head": 6, "d_model": 12}
    info = make_model(n_layers, "balls").model_copy(update=shape)
    hidden = np.stack([embed(ball(n, 3 + layer, 0), 12) for layer in range(n_layers)], axis=1)
    keys = hidden[:, :, None, 6:].copy()
    keys[:, 0] = 1.0
    tensors = {
        "hidden": torch.tensor(hidden, dtype=torch.float32),
        "k": torch.tensor(keys, dtype=torch.float32),
    }
    if points == "all":  # texts of one token
        tensors["text_index"] = torch.arange(n)
    return Trace(
        model=info,
        prompt=PROMPTS["kv-document"],
        texts=TextsInfo(source="made", n=n, sha256="0"),
        points=points,
        layers=tuple(range(n_layers)),
        n_tokens=((1 if points == "all" else 5),) * n,
        n_truncated=0,
        tensors=tensors,
        versions={"torch": "1.2.3", "numpy": "0"},
    )
