"""Similarity of two sets of points, row by row of the same texts: pure numbers, float64 inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from kvlens.analysis.geometry import as_points, centred
from kvlens.store.errors import InputError

FEWEST_ROWS = 20  # that say anything
FOLDS = 5
PENALTIES = np.geomspace(1e-6, 1e3, 10)  # of the ridge, for points of total variance 1
SMALLEST_PRODUCT = 1e-24  # of the HSICs of both sides with themselves; below, they are rounding


def linear_cka(X: Any, Y: Any) -> float:
    """Debiased linear CKA: 1 for a rotated and scaled copy, about 0 by chance.

    Kornblith et al. 2019 (arXiv:1905.00414) with the unbiased HSIC_1 of Nguyen et al. 2021
    (arXiv:2010.15327). Directions of large variance dominate it.

    Args:
        X: one side, ``[n, p]``, n >= 4.
        Y: the other, ``[n, q]``.

    Returns:
        The similarity.

    Raises:
        InputError: for unequal n, NaN, constant rows, and rows that are all equally far from each
            other.
    """
    A, B = _centred_pair(X, Y, 4)
    selves = _hsic(A, A) * _hsic(B, B)
    if selves <= SMALLEST_PRODUCT:
        raise InputError("CKA is undefined: all rows of one side are equally far from each other")
    return float(_hsic(A, B) / np.sqrt(selves))


def _hsic(X: Float[np.ndarray, "n p"], Y: Float[np.ndarray, "n q"]) -> float:
    """Unbiased HSIC_1 of centred rows, times n (n - 3).

    For squared lengths a_i and b_i of the rows: ``|X'Y|_F^2 - n / (n - 2) sum a_i b_i
    + sum a_i sum b_i / ((n - 1)(n - 2))``.
    """
    n = len(X)
    a = (X**2).sum(axis=1)
    b = (Y**2).sum(axis=1)
    product = ((X.T @ Y) ** 2).sum()
    return product - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))


def ridge_r2(X: Any, Y: Any, seed: int = 0) -> float:
    """Cross-validated R2 of a ridge regression from X to Y.

    Five shuffled folds; in each, leave-one-out on the training rows picks one penalty of 1e-6 to
    1e3 (for X of total variance 1). R2 = 1 - |Y - prediction|^2 / |Y - mean|^2 over all held-out
    rows and columns: columns count by their variance.

    Args:
        X: the inputs, ``[n, p]``, n >= 20.
        Y: the outputs, ``[n, q]``.
        seed: of the folds.

    Returns:
        At most 1; about 0, or a little below, by chance.

    Raises:
        InputError: for unequal n, NaN and constant rows.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    inputs, outputs = _centred_pair(X, Y, FEWEST_ROWS)
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    scaled = inputs * np.sqrt(len(inputs))
    predicted = cross_val_predict(RidgeCV(PENALTIES), scaled, outputs, cv=folds)
    return float(1 - ((outputs - predicted) ** 2).sum() / (outputs**2).sum())


def _centred_pair(
    X: Any, Y: Any, least: int
) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n q"]]:
    """Both sides, checked and centred."""
    A = as_points(X, least)
    B = as_points(Y, least)
    if len(A) != len(B):
        raise InputError(f"both sides have to be the same texts, not {len(A)} and {len(B)}")
    return centred(A), centred(B)
