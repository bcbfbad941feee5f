"""Geometry of a set of embeddings: how evenly it fills its space, and how near positive pairs lie.

Plain functions on ``[n, d]`` arrays (any real dtype; float64 inside) that return floats. Each raises InputError for
what is no such array, for NaN or infinity and for too few rows; those that look at directions refuse rows of zeros.
`measure` applies them to several methods on one model; they themselves need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.store.errors import InputError

if TYPE_CHECKING:
    pass

_BLOCK = 1024  # rows of the n x n similarities held at once


def as_points(X: Any, least: int, name: str = "embeddings") -> np.ndarray:
    """`X` as float64 ``[n, d]``. Raises InputError when it is not that, has fewer than `least` rows, or NaN."""
    try:
        X = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} have to be an array of real numbers [n, d]: {error}") from error
    if X.ndim != 2 or not X.shape[1]:
        raise InputError(f"{name} have to be an array [n, d], not of shape {list(X.shape)}")
    if len(X) < least:
        raise InputError(f"{name} have {len(X)} rows, at least {least} are needed: give more texts")
    if bad := len(X) - int(np.isfinite(X).all(axis=1).sum()):
        raise InputError(
            f"NaN or infinity in {bad} of {len(X)} rows of the {name}: compute them again in float32"
        )
    return X


def mean_cosine(X: Any) -> float:
    """Mean cosine similarity over all pairs of different rows: (|sum_i u_i|^2 - n) / (n (n - 1)), u_i = x_i / |x_i|.

    Near 0 where directions are spread evenly, near 1 in a narrow cone (Ethayarajh 2019). Not centred.
    """
    U = _unit(as_points(X, 2))
    n, total = len(U), U.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def eigenvalue_entropy_ratio(X: Any) -> float:
    """Evenness of the variance over directions: -sum_k p_k ln p_k / ln m, p_k = lambda_k / sum lambda.

    lambda: the eigenvalues of the covariance of the rows; m = min(d, n - 1), the most that can differ from 0. 1 when
    all m are equal, 0 when one direction holds everything. Centred; free of rotation and scale; biased downwards for
    small n, so compare sets of equal n. Needs n >= 3 and d >= 2; raises InputError for rows that are all equal.
    """
    X = as_points(X, 3)
    most = min(X.shape[1], len(X) - 1)
    if most < 2:
        raise InputError(
            "embeddings of one dimension have no eigenvalues to compare: give at least two dimensions"
        )
    eigenvalues = np.linalg.svd(centred(X), compute_uv=False)[:most] ** 2
    return entropy(eigenvalues / eigenvalues.sum()) / float(np.log(most))


def uniformity(X: Any, t: float = 2.0) -> float:
    """ln mean_{i<j} exp(-t |u_i - u_j|^2), u_i = x_i / |x_i| (Wang and Isola 2020, arXiv:2005.10242).

    0 when all directions are equal, never below -4 t; lower is more uniform. Time n^2 d, memory linear in n.
    """
    U = _unit(as_points(X, 2))
    n, total = len(U), 0.0
    for at in range(0, n, _BLOCK):
        near = np.exp(-2 * t * (1 - U[at : at + _BLOCK] @ U.T))
        total += near.sum() - np.trace(near, offset=at)
    return float(np.log(total / (n * (n - 1))))


def alignment(X: Any, Y: Any, alpha: float = 2.0) -> float:
    """mean_i |u_i - v_i|^alpha of positive pairs, u_i = x_i / |x_i|, v_i = y_i / |y_i| (Wang and Isola 2020).

    Row i of `X` and row i of `Y` ``[n, d]`` embed two texts of one meaning. 0 when each pair agrees, at most
    2^alpha; lower is better, beside uniformity. Raises InputError when the shapes differ.
    """
    U, V = as_points(X, 1), as_points(Y, 1)
    if U.shape != V.shape:
        raise InputError(
            f"positive pairs need two arrays of one shape, not {list(U.shape)} and {list(V.shape)}"
        )
    return float((np.linalg.norm(_unit(U) - _unit(V), axis=1) ** alpha).mean())


def centred(X: np.ndarray) -> np.ndarray:
    """Rows less their mean, of Frobenius norm 1; more than n columns are rotated into n, which keeps all products of
    rows. Raises InputError for rows that are all equal."""
    X = X / (np.abs(X).max() or 1.0)  # so that squares neither underflow nor overflow
    rest = X - X.mean(axis=0)
    norm = np.linalg.norm(rest)
    if norm <= 8 * np.finfo(np.float64).eps * np.linalg.norm(X):
        raise InputError("all rows are equal: there is no variance to look at")
    rest = rest / norm
    return np.transpose(np.linalg.qr(rest.T, mode="r")) if X.shape[1] > len(X) else rest


def entropy(shares: np.ndarray) -> float:
    """-sum_k p_k ln p_k in nats, of shares that sum to 1; those of 0 count nothing."""
    return float(-(shares * np.log(np.maximum(shares, 1e-300))).sum())


def _unit(X: np.ndarray) -> np.ndarray:
    size = np.abs(X).max(axis=1, keepdims=True)  # first to size 1, so that squares cannot underflow
    if zeros := int((size == 0).sum()):
        raise InputError(
            f"{zeros} of {len(X)} embeddings are zero and have no direction: leave them out"
        )
    X = X / size
    return X / np.linalg.norm(X, axis=1, keepdims=True)
