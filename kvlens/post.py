"""Post-processing fitted on calibration embeddings: center, z-score, PCA whitening. Stored beside the layer set."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from kvlens.files import InputError, atomic_path

KINDS = ("center", "zscore", "whiten")
FORMAT, VERSION = "kvlens.post", 1


@dataclass(frozen=True)
class Post:
    """An affine map ``(x - mean) @ matrix`` fitted without labels.

    mean ``[d]``, matrix ``[d, dimension]``, float32. embedder: what made the embeddings it was fitted on (see
    `Encoder.signature`); an encoder refuses one fitted on other embeddings. n: how many embeddings.
    """

    kind: str
    embedder: str
    n: int
    shrinkage: float
    mean: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Map ``[n, d]`` to float32 ``[n, dimension]``."""
        mean, matrix = (torch.from_numpy(a).to(embeddings.device) for a in (self.mean, self.matrix))
        return (embeddings.float() - mean) @ matrix

    def save(self, path: str | Path) -> Path:
        from safetensors.numpy import save_file

        facts = {k: getattr(self, k) for k in ("kind", "embedder", "n", "shrinkage")}
        header = json.dumps({"format": FORMAT, "version": VERSION, **facts})
        with atomic_path(path) as temporary:
            save_file({"mean": self.mean, "matrix": self.matrix}, temporary, {"kvlens": header})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Post:
        """Read what `save` wrote. Raises InputError when the file is not such a fit."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {}).get("kvlens", "{}"))
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a post-processing file: {error}") from error
        if header.pop("format", None) != FORMAT or header.pop("version", None) != VERSION:
            raise InputError(f"{path} is no kvlens post-processing file of version {VERSION}: fit it again")
        return cls(**header, **arrays)


def fit(
    embeddings: np.ndarray,
    kind: str,
    embedder: str = "",
    dimension: int | None = None,
    shrinkage: float | None = None,
) -> Post:
    """Fit on ``[n, d]`` embeddings.

    center: subtract the mean. zscore: also divide each coordinate by its standard deviation. whiten: also rotate to
    the principal axes and divide by the root of their variances; `dimension` keeps the leading axes (default: all).
    shrinkage: share of the mean variance mixed into the covariance; default Ledoit-Wolf's estimate, for
    n < d, where the covariance alone cannot be inverted.
    Raises InputError for an unknown kind, fewer than two embeddings, or a dimension above d.
    """
    n, d = embeddings.shape
    if kind not in KINDS:
        raise InputError(f"unknown post-processing {kind!r}: give one of {', '.join(KINDS)}")
    if n < 2:
        raise InputError(f"post-processing is fitted on at least 2 texts, got {n}")
    if dimension is not None and (kind != "whiten" or not 1 <= dimension <= d):
        raise InputError(f"a dimension goes with whiten and lies in 1 to {d}")
    x = embeddings.astype(np.float64)
    mean, matrix, alpha = x.mean(0), np.eye(d), 0.0
    x = x - mean
    if kind == "zscore":
        matrix = np.diag(1 / np.maximum(x.std(0), 1e-12))
    if kind == "whiten":
        from sklearn.covariance import ledoit_wolf_shrinkage

        alpha = float(ledoit_wolf_shrinkage(x, assume_centered=True) if shrinkage is None else shrinkage)
        covariance = x.T @ x / n
        covariance = (1 - alpha) * covariance + alpha * np.trace(covariance) / d * np.eye(d)
        variances, axes = np.linalg.eigh(covariance)
        order = np.argsort(variances)[::-1][:dimension]
        floor = variances.max() * 1e-10
        matrix = axes[:, order] / np.sqrt(np.maximum(variances[order], floor))
    return Post(kind, embedder, n, alpha, mean.astype(np.float32), np.ascontiguousarray(matrix, dtype=np.float32))
