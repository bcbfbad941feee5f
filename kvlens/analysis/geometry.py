"""Geometry of a set of embeddings: how evenly it fills its space, how near positive pairs lie.

Plain functions on ``[n, d]`` arrays (any real dtype; float64 inside) that return floats. Each
raises InputError for what is no such array, for NaN or infinity and for too few rows; those that
look at directions refuse rows of zeros. They need no torch, and know nothing of models and methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kvlens.store.errors import InputError

BLOCK = 1024  # rows of the n x n similarities held at once
SMALLEST_SHARE = 1e-300  # its logarithm is finite, and the share itself counts nothing


def as_points(X: Any, least: int, name: str = "embeddings") -> Float[np.ndarray, "n d"]:
    """Points as float64.

    Args:
        X: anything array-like.
        least: fewest rows.
        name: what the rows are, for messages.

    Returns:
        The array.

    Raises:
        InputError: when it is no array ``[n, d]``, has fewer than `least` rows, or NaN or infinity.
    """
    try:
        X = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} have to be an array of real numbers [n, d]: {error}") from error
    if X.ndim != 2 or not X.shape[1]:
        raise InputError(f"{name} have to be an array [n, d], not of shape {list(X.shape)}")
    if len(X) < least:
        raise InputError(f"{name} have {len(X)} rows, at least {least} are needed: give more texts")
    bad = np.count_nonzero(~np.isfinite(X).all(axis=1))
    if bad:
        raise InputError(
            f"NaN or infinity in {bad} of {len(X)} rows of the {name}: "
            "compute them again in float32"
        )
    return X


def mean_cosine(X: Any) -> float:
    """Mean cosine similarity over all pairs of different rows.

    ``(|sum_i u_i|^2 - n) / (n (n - 1))``, ``u_i = x_i / |x_i|`` (Ethayarajh 2019). Not centred.

    Args:
        X: the embeddings, ``[n, d]``, n >= 2.

    Returns:
        Near 0 where directions are spread evenly, near 1 in a narrow cone.
    """
    U = directions(as_points(X, 2))
    n = len(U)
    total = U.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def eigenvalue_entropy_ratio(X: Any) -> float:
    """Evenness of the variance over directions.

    ``-sum_k p_k ln p_k / ln m``, ``p_k = lambda_k / sum lambda``, of the eigenvalues lambda of the
    covariance of the rows; m = min(d, n - 1), the most that can differ from 0. Centred; free of
    rotation and scale; biased downwards for small n, so compare sets of equal n.

    Args:
        X: the embeddings, ``[n, d]``, n >= 3 and d >= 2.

    Returns:
        1 when all m eigenvalues are equal, 0 when one direction holds everything.

    Raises:
        InputError: for rows that are all equal.
    """
    X = as_points(X, 3)
    most = min(X.shape[1], len(X) - 1)
    if most < 2:
        raise InputError(
            "embeddings of one dimension have no eigenvalues to compare: "
            "give at least two dimensions"
        )
    eigenvalues = np.linalg.svd(centred(X), compute_uv=False)[:most] ** 2
    return entropy(eigenvalues / eigenvalues.sum()) / float(np.log(most))


def effective_rank(X: Any) -> float:
    """Effective rank of the centred rows (Roy and Vetterli 2007).

    ``exp(-sum_k p_k ln p_k)``, ``p_k = s_k / sum s``, of the singular values s_k, not squared.

    Args:
        X: the points, ``[n, d]``, n >= 2.

    Returns:
        From 1 to min(d, n - 1).

    Raises:
        InputError: for rows that are all equal.
    """
    values = np.linalg.svd(centred(as_points(X, 2)), compute_uv=False)
    return float(np.exp(entropy(values / values.sum())))


def uniformity(X: Any, t: float = 2.0) -> float:
    """How evenly directions cover the sphere (Wang and Isola 2020, arXiv:2005.10242).

    ``ln mean_{i<j} exp(-t |u_i - u_j|^2)``, ``u_i = x_i / |x_i|``. Time n^2 d, memory linear in n.

    Args:
        X: the embeddings, ``[n, d]``, n >= 2.
        t: how fast the potential falls with distance.

    Returns:
        0 when all directions are equal, never below -4 t; lower is more uniform.
    """
    U = directions(as_points(X, 2))
    n = len(U)
    total = 0.0
    for at in range(0, n, BLOCK):
        near = np.exp(-2 * t * (1 - U[at : at + BLOCK] @ U.T))
        total += near.sum() - np.trace(near, offset=at)
    return float(np.log(total / (n * (n - 1))))


def alignment(X: Any, Y: Any, alpha: float = 2.0) -> float:
    """Mean distance of positive pairs (Wang and Isola 2020, arXiv:2005.10242).

    ``mean_i |u_i - v_i|^alpha``, ``u_i = x_i / |x_i|``, ``v_i = y_i / |y_i|``.

    Args:
        X: one side, ``[n, d]``.
        Y: the other; row i of both embed two texts of one meaning.
        alpha: power of the distance.

    Returns:
        0 when each pair agrees, at most 2^alpha; lower is better, beside uniformity.

    Raises:
        InputError: when the shapes differ.
    """
    X = as_points(X, 1)
    Y = as_points(Y, 1)
    if X.shape != Y.shape:
        raise InputError(
            f"positive pairs need two arrays of one shape, not {list(X.shape)} and {list(Y.shape)}"
        )
    distances = np.linalg.norm(directions(X) - directions(Y), axis=1)
    return float((distances**alpha).mean())


def centred(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n columns"]:
    """Rows less their mean, of Frobenius norm 1.

    Args:
        X: the points.

    Returns:
        As many columns, or n where there are more: they are rotated into n, which keeps all
        products of rows.

    Raises:
        InputError: for rows that are all equal.
    """
    X = X / (np.abs(X).max() or 1.0)  # so that squares neither underflow nor overflow
    rest = X - X.mean(axis=0)
    norm = np.linalg.norm(rest)
    if norm <= 8 * np.finfo(np.float64).eps * np.linalg.norm(X):
        raise InputError("all rows are equal: there is no variance to look at")
    rest = rest / norm
    if X.shape[1] <= len(X):
        return rest
    return np.transpose(np.linalg.qr(rest.T, mode="r"))


def entropy(shares: Float[np.ndarray, " n"]) -> float:
    """``-sum_k p_k ln p_k`` in nats, of shares that sum to 1; those of 0 count nothing."""
    return float(-(shares * np.log(np.maximum(shares, SMALLEST_SHARE))).sum())


def directions(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows at unit length; raises InputError for rows of zeros."""
    size = np.abs(X).max(axis=1, keepdims=True)
    zeros = np.count_nonzero(size == 0)
    if zeros:
        raise InputError(
            f"{zeros} of {len(X)} embeddings are zero and have no direction: leave them out"
        )
    X = X / size  # so that squares cannot underflow
    return X / np.linalg.norm(X, axis=1, keepdims=True)
