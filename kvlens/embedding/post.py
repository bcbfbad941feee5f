"""Post-processing fitted on calibration embeddings: center, z-score, PCA whitening. Stored beside the layer set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import TypeAdapter

from kvlens.store.artifact import TensorArtifact
from kvlens.store.errors import InputError

KINDS = ("center", "zscore", "whiten")


@dataclass(frozen=True)
class Post(TensorArtifact):
    """An affine map ``(x - mean) @ matrix`` fitted without labels.

    mean ``[d]``, matrix ``[d, dimension]``, float32. embedder: what made the embeddings it was fitted on (see
    `Encoder.signature`); an encoder refuses one fitted on other embeddings. n: how many embeddings.
    """

    what: ClassVar[str] = "a post-processing"
    again: ClassVar[str] = "fit it again"
    format: ClassVar[str] = "kvlens.post"
    version: ClassVar[int] = 1

    kind: str
    embedder: str
    n: int
    shrinkage: float
    mean: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Map ``[n, d]`` to float32 ``[n, dimension]``. Raises InputError for embeddings of another d."""
        if embeddings.shape[-1] != len(self.mean):
            raise InputError(
                f"this post-processing maps {len(self.mean)} dimensions, not {embeddings.shape[-1]}"
            )
        mean, matrix = (torch.from_numpy(a).to(embeddings.device) for a in (self.mean, self.matrix))
        return (embeddings.float() - mean) @ matrix

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header's fields, and both arrays under their own names."""
        fields = {name: getattr(self, name) for name in ("kind", "embedder", "n", "shrinkage")}
        return fields, {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_parts(cls, fields: dict[str, Any], arrays: dict[str, Any]) -> Post:
        """The post-processing of a header's fields and arrays; raises ValueError."""
        return TypeAdapter(cls).validate_python({**fields, **arrays})


def fit(
    embeddings: np.ndarray,
    kind: str,
    embedder: str = "",
    dimension: int | None = None,
    shrinkage: float | None = None,
) -> Post:
    """Fit on ``[n, d]`` embeddings.

    center: subtract the mean. zscore: also divide each coordinate by its standard deviation, a constant one by 1.
    whiten: center, rotate to the principal axes and divide by the root of their variances; `dimension` keeps the
    leading axes (default: all). shrinkage: share of the mean variance mixed into the covariance; default
    Ledoit-Wolf's estimate, for n < d, where the covariance alone cannot be inverted.
    Raises InputError for an unknown kind, fewer than two embeddings, embeddings that are all equal or not finite, a
    dimension above d, a shrinkage outside 0 to 1, and axes without variance.
    """
    if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
        raise InputError("post-processing is fitted on finite embeddings [n, d]")
    n, d = embeddings.shape
    if kind not in KINDS:
        raise InputError(f"unknown post-processing {kind!r}: give one of {', '.join(KINDS)}")
    if n < 2:
        raise InputError(f"post-processing is fitted on at least 2 texts, got {n}")
    if dimension is not None and (kind != "whiten" or not 1 <= dimension <= d):
        raise InputError(f"a dimension goes with whiten and lies in 1 to {d}")
    if shrinkage is not None and (kind != "whiten" or not 0 <= shrinkage <= 1):
        raise InputError("a shrinkage goes with whiten and lies in 0 to 1")
    x = embeddings.astype(np.float64)
    mean, matrix, alpha = x.mean(0), np.eye(d), 0.0
    # What varies less than float32 rounds is constant: dividing by it would blow up noise.
    constant = x.std(0) <= 1e-6 * np.abs(x).max(0)
    x = x - mean
    if kind != "center" and constant.all():
        raise InputError(f"all {n} embeddings are equal: give texts that differ")
    if kind == "zscore":
        matrix = np.diag(1 / np.where(constant, 1.0, x.std(0)))
    if kind == "whiten":
        from sklearn.covariance import ledoit_wolf_shrinkage

        alpha = float(
            ledoit_wolf_shrinkage(x, assume_centered=True) if shrinkage is None else shrinkage
        )
        covariance = x.T @ x / n
        covariance = (1 - alpha) * covariance + alpha * np.trace(covariance) / d * np.eye(d)
        variances, axes = np.linalg.eigh(covariance)
        order = np.argsort(variances)[::-1][:dimension]
        if variances[order[-1]] <= variances.max() * 1e-10:
            raise InputError(
                f"{n} embeddings do not vary along {len(order)} axes: lower the dimension, or shrink more"
            )
        matrix = axes[:, order] / np.sqrt(variances[order])
    return Post(
        kind,
        embedder,
        n,
        alpha,
        mean.astype(np.float32),
        np.ascontiguousarray(matrix, dtype=np.float32),
    )
