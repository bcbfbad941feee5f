"""Similarity: CKA against n x n formulas, the ridge probe on maps and noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_cases import normal

from kvlens.analysis.geometry import effective_rank
from kvlens.analysis.similarity import linear_cka, ridge_r2


def cka_by_grams(X, Y):
    """Song et al.'s HSIC_1 as it is printed: Gram matrices without diagonals, nothing centred."""
    n = len(X)
    ones = np.ones(n)

    def hsic(K, L):
        middle = (ones @ K @ ones) * (ones @ L @ ones) / ((n - 1) * (n - 2))
        return (np.trace(K @ L) + middle - 2 / (n - 2) * ones @ K @ L @ ones) / (n * (n - 3))

    K, L = (Z @ Z.T * (1 - np.eye(n)) for Z in (X, Y))
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(5, 30), d=st.integers(2, 40), seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3)
)
def test_rotation_scale_shift_and_order_change_nothing(n, d, seed, scale):
    X = normal(n, d, seed=seed)
    Y = normal(n, 3, seed=seed + 100)
    turn = np.linalg.qr(normal(d, d, seed=seed))[0]
    order = np.random.default_rng(seed).permutation(n)
    moved = (scale * X @ turn + normal(d, seed=seed))[order]
    rank = effective_rank(X)
    cka = linear_cka(X, Y)
    assert 1 <= rank <= min(d, n - 1) + 1e-9
    assert effective_rank(moved) == pytest.approx(rank)
    assert linear_cka(moved, Y[order]) == pytest.approx(cka, abs=1e-9) == linear_cka(Y, X)
    assert linear_cka(moved, X[order]) == pytest.approx(1)
    assert cka == pytest.approx(cka_by_grams(X, Y), abs=1e-8)


def test_cka_of_independent_noise_is_zero_on_average_where_the_biased_one_is_not():
    debiased, biased = [], []
    for seed in range(40):
        X, Y = normal(50, 30, seed=seed), normal(50, 30, seed=seed + 1000)
        debiased.append(linear_cka(X, Y))
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
        biased.append(np.sum((X.T @ Y) ** 2) / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y))
    assert np.mean(biased) > 0.3
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(40)
    assert np.std(debiased) < 0.05


def test_ridge_finds_a_linear_map_and_nothing_in_noise():
    X = normal(100, 12) * np.geomspace(0.1, 10, 12) + 40
    exact = X @ normal(12, 7, seed=1) + 3
    assert ridge_r2(X, exact) == pytest.approx(1, abs=1e-6)
    assert ridge_r2(1e4 * X, exact) == pytest.approx(ridge_r2(X, exact))
    for d in (12, 300):  # fewer and more columns than rows
        assert -0.2 < ridge_r2(normal(100, d, seed=2), normal(100, 7, seed=3)) < 0.1
    # Half of each column's variance is noise; 400 rows cost 12 coefficients about 2 % of it.
    X = normal(400, 12)
    signal = X @ np.linalg.qr(normal(12, 12))[0]
    assert ridge_r2(X, signal + normal(400, 12, seed=4)) == pytest.approx(0.5, abs=0.05)


def test_ridge_r2_weighs_columns_by_their_variance():
    X = normal(200, 3)
    both = np.hstack([X, 3 * normal(200, 3, seed=1)])  # variance 1 each known, 9 each unknown
    assert ridge_r2(X, both) == pytest.approx(0.1, abs=0.04)
