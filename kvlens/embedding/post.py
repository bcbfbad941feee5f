"""Post-processing, an affine map without labels; its file stands beside that of the layer set.

Fitted on calibration embeddings: center, the mean direction projected out, z-score, PCA whitening.
Without any text: `embed_filter`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.store.arguments import shown
from kvlens.store.arrays import check_array, check_finite, check_names
from kvlens.store.artifact import TensorArtifact
from kvlens.store.bounds import Count, within
from kvlens.store.errors import InputError
from kvlens.store.notices import notice

FITTED = ("center", "project_mean", "zscore", "whiten")
"""Fitted on calibration embeddings."""
TEXTLESS = ("embed_filter",)
"""Made of the model alone."""
KINDS = (*FITTED, *TEXTLESS)
PER_DIMENSION = 4  # embeddings a dimension that whitening wants: its axes are no noise then
CONSTANT = 1e-6  # of the largest coordinate; what varies less than float32 rounds is constant
LEAST_VARIANCE = 1e-10  # of the largest; an axis with less would blow up noise


@dataclass(frozen=True)
class Post(TensorArtifact):
    """An affine map ``(x - mean) @ matrix`` fitted without labels.

    Attributes:
        kind: one of `KINDS`.
        embedder: what made the embeddings it was fitted on (see `Encoder.signature`); an encoder
            refuses one fitted on other embeddings.
        n: how many embeddings it was fitted on; 0 for one of `TEXTLESS`.
        shrinkage: the share of the mean variance in the covariance; 0 for the other kinds.
        mean: float32 ``[d]``.
        matrix: float32 ``[d, dimension]``.
    """

    what: ClassVar[str] = "a post-processing"
    again: ClassVar[str] = "fit it again"
    format: ClassVar[str] = "kvlens.post"
    version: ClassVar[int] = 1
    array_fields: ClassVar[tuple[str, ...]] = ("mean", "matrix")

    kind: str
    embedder: str
    n: Count
    shrinkage: Annotated[float, within(0, 1)]
    mean: np.ndarray = field(repr=False)
    matrix: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        """Raise InputError for an unknown kind, and arrays that are no affine map."""
        if self.kind not in KINDS:
            raise InputError(f"unknown kind {shown(self.kind)}")
        if self.mean.size == 0 or self.matrix.size == 0:
            raise InputError("it maps from or to no dimension")
        d = self.mean.size
        sizes = {"d": d, "dimension": self.matrix.size // d}
        for name, axes in (("mean", "d"), ("matrix", "d dimension")):
            array = getattr(self, name)
            check_array(name, array, axes, sizes)
            check_finite(name, array)

    def __call__(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        """Map raw embeddings.

        Args:
            embeddings: as the encoder makes them that this was fitted for.

        Returns:
            float32 ``[n, dimension]``, on their device.

        Raises:
            InputError: for embeddings of another dimension.
        """
        if embeddings.shape[-1] != len(self.mean):
            raise InputError(
                f"this post-processing maps {len(self.mean)} dimensions, not {embeddings.shape[-1]}"
            )
        mean = torch.from_numpy(self.mean).to(embeddings.device)
        matrix = torch.from_numpy(self.matrix).to(embeddings.device)
        return (embeddings.float() - mean) @ matrix

    def facts(self) -> dict[str, Any]:
        """What a file of vectors records of it: the fields, and a hash of both arrays."""
        arrays = self.mean.tobytes() + self.matrix.tobytes()
        return {
            "kind": self.kind,
            "n": self.n,
            "shrinkage": self.shrinkage,
            "embedder": self.embedder,
            "sha256": hashlib.sha256(arrays).hexdigest(),
        }

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header's fields, and both arrays under their own names."""
        return self.header_fields(), {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_parts(cls, fields: dict[str, Any], arrays: dict[str, Any]) -> Post:
        """The post-processing of a header's fields and arrays."""
        check_names(arrays, cls.array_fields, required=cls.array_fields)
        return cls(**cls.checked_fields(fields), **arrays)


def fit(
    embeddings: np.ndarray,
    kind: str,
    embedder: str = "",
    dimension: int | None = None,
    shrinkage: float | None = None,
) -> Post:
    """Fit a post-processing, in float64.

    Args:
        embeddings: of calibration texts, ``[n, d]``.
        kind: ``center``: subtract the mean. ``project_mean``: take out the mean's direction
            (arXiv:2511.11041; all-but-the-top of depth 1). ``zscore``: center, and divide each
            coordinate by its standard deviation, a constant one by 1. ``whiten``: center, rotate to
            the principal axes and divide by the root of their variances; it warns where it is
            fitted on fewer than four times as many embeddings as dimensions.
        embedder: what made the embeddings, see `Encoder.signature`.
        dimension: how many leading axes ``whiten`` keeps; default all.
        shrinkage: share of the mean variance mixed into the covariance of ``whiten``; default
            Ledoit-Wolf's estimate, for n < d, where the covariance alone cannot be inverted.

    Returns:
        The post-processing, in float32.

    Raises:
        InputError: for an unknown kind, fewer than two embeddings, embeddings that are all equal or
            not finite, a dimension above d, a shrinkage outside 0 to 1, and axes without variance.
    """
    _check_request(embeddings, kind, dimension, shrinkage)
    n, d = embeddings.shape
    x = embeddings.astype(np.float64)
    mean = x.mean(0)
    constant = x.std(0) <= CONSTANT * np.abs(x).max(0)
    if kind != "center" and constant.all():
        raise InputError(f"all {n} embeddings are equal: give texts that differ")
    centred = x - mean
    mixed = 0.0
    if kind == "center":
        matrix = np.eye(d)
    elif kind == "project_mean":
        matrix = _without_direction(mean)
    elif kind == "zscore":
        matrix = np.diag(1 / np.where(constant, 1.0, centred.std(0)))
    else:
        _warn_of_few(n, d)
        mixed = _ledoit_wolf(centred) if shrinkage is None else float(shrinkage)
        matrix = _whitening(centred, mixed, dimension)
    return Post(
        kind=kind,
        embedder=embedder,
        n=n,
        shrinkage=mixed,
        mean=mean.astype(np.float32),
        matrix=np.ascontiguousarray(matrix, dtype=np.float32),
    )


def _check_request(
    embeddings: np.ndarray, kind: str, dimension: int | None, shrinkage: float | None
) -> None:
    if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
        raise InputError("post-processing is fitted on finite embeddings [n, d]")
    n, d = embeddings.shape
    if kind not in FITTED:
        raise InputError(f"unknown post-processing {kind!r}: give one of {', '.join(FITTED)}")
    if n < 2:
        raise InputError(f"post-processing is fitted on at least 2 texts, got {n}")
    if dimension is not None and (kind != "whiten" or not 1 <= dimension <= d):
        raise InputError(f"a dimension goes with whiten and lies in 1 to {d}")
    if shrinkage is not None and (kind != "whiten" or not 0 <= shrinkage <= 1):
        raise InputError("a shrinkage goes with whiten and lies in 0 to 1")


def _warn_of_few(n: int, d: int) -> None:
    if n < PER_DIMENSION * d:
        notice(
            f"whitening is fitted on {n} embeddings of {d} dimensions: "
            f"give at least {PER_DIMENSION * d}, or its last axes are noise"
        )


def _without_direction(mean: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    """The projection that takes out the mean's direction, and so the mean."""
    length = np.linalg.norm(mean)
    if length == 0:
        raise InputError("the mean of the embeddings is zero: it has no direction to take out")
    direction = mean / length
    return np.eye(len(mean)) - np.outer(direction, direction)


def _ledoit_wolf(centred: Float[np.ndarray, "n d"]) -> float:
    from sklearn.covariance import ledoit_wolf_shrinkage  # half a second, for this kind alone

    return float(ledoit_wolf_shrinkage(centred, assume_centered=True))


def _whitening(
    centred: Float[np.ndarray, "n d"], shrinkage: float, dimension: int | None
) -> Float[np.ndarray, "d k"]:
    """The leading principal axes as columns, each over the root of its variance."""
    n, d = centred.shape
    covariance = centred.T @ centred / n
    towards = shrinkage * np.trace(covariance) / d * np.eye(d)
    covariance = (1 - shrinkage) * covariance + towards
    variances, axes = np.linalg.eigh(covariance)
    leading = np.argsort(variances)[::-1][:dimension]
    if variances[leading[-1]] <= variances.max() * LEAST_VARIANCE:
        raise InputError(
            f"{n} embeddings do not vary along {len(leading)} axes: "
            "lower the dimension, or shrink more"
        )
    return axes[:, leading] / np.sqrt(variances[leading])


def post_file(folder: Path | None, kind: str, signature: str) -> Path:
    """Where the post-processing of an encoder stands; without a folder, the working folder."""
    return (folder or Path()) / f"post-{kind}-{signature}.safetensors"


def find_post(
    post: str | Path | Post, folder: Path | None, signature: str, force: bool = False
) -> Post:
    """The post-processing that a user names.

    Args:
        post: one of `KINDS`, fitted before; a file; or the value itself.
        folder: where fits are kept.
        signature: of the encoder that it is for.
        force: take one that was fitted on other embeddings.

    Returns:
        The post-processing.

    Raises:
        InputError: for an unknown kind, one that is not fitted, a file that is none, and one that
            was fitted on other embeddings.
    """
    if isinstance(post, str) and not post.endswith(".safetensors"):
        post = _fitted_file(post, folder, signature)
    if not isinstance(post, Post):
        post = Post.load(post)
    if post.embedder != signature and not force:
        raise InputError(
            "this post-processing was fitted on other embeddings: fit it again, or `force=True`"
        )
    return post


def _fitted_file(kind: str, folder: Path | None, signature: str) -> Path:
    if kind not in KINDS:
        choices = ", ".join(KINDS)
        raise InputError(f"unknown post-processing {kind!r}: give one of {choices}, or its file")
    file = post_file(folder, kind, signature)
    if not file.exists():
        raise InputError(
            f"no {kind} is fitted for this encoder ({file.name} is missing): "
            "fit it first with `fit_post`, on kvlens.calibration_texts()"
        )
    return file
