"""Geometry of embeddings against double loops, closed forms and promised invariances."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from point_cases import cloud, normal, rotation, unit, with_singular_values
from scipy.spatial.distance import pdist

from kvlens.analysis.geometry import (
    alignment,
    effective_rank,
    eigenvalue_entropy_ratio,
    mean_cosine,
    uniformity,
)
from kvlens.store.errors import InputError

ALL = (mean_cosine, eigenvalue_entropy_ratio, uniformity)


def test_uniformity_and_mean_cosine_equal_a_double_loop():
    x = cloud(30, 5)
    pairs = [(unit(x[i]), unit(x[j])) for i in range(30) for j in range(30) if i != j]
    potential = np.mean([np.exp(-2 * sum((u - v) ** 2)) for u, v in pairs])
    np.testing.assert_allclose(uniformity(x), np.log(potential), rtol=1e-12)
    np.testing.assert_allclose(mean_cosine(x), np.mean([u @ v for u, v in pairs]), rtol=1e-12)


def test_uniformity_is_right_beyond_one_block_of_rows():
    x = cloud(2100, 3)
    directions = x / np.linalg.norm(x, axis=1, keepdims=True)
    truth = np.log(np.exp(-3 * pdist(directions, "sqeuclidean")).mean())
    np.testing.assert_allclose(uniformity(x, t=3), truth, rtol=1e-12)


def test_uniformity_on_the_circle_is_the_integral():
    angles = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # The mean of exp(-4 (1 - cos)) over the circle is exp(-4) I_0(4), pairs of a point with itself
    # left out.
    mean = (np.exp(-4) * np.i0(4) * 4000 - 1) / 3999
    np.testing.assert_allclose(uniformity(circle), np.log(mean), rtol=1e-9)


def test_the_ends_of_the_scales():
    same = np.ones((4, 3))
    axes = np.vstack([np.eye(3), -np.eye(3)])
    assert mean_cosine(same) == pytest.approx(1)
    assert uniformity(same) == pytest.approx(0)
    assert uniformity([[1, 2], [-1, -2]]) == pytest.approx(-8)
    assert mean_cosine(axes) == pytest.approx(-1 / 5)
    assert eigenvalue_entropy_ratio(axes) == pytest.approx(1)
    # As even as five points can be.
    assert eigenvalue_entropy_ratio(np.eye(5, 40)) == pytest.approx(1)
    line = np.outer(np.arange(9.0), [1, 2, 3]) + 50
    assert eigenvalue_entropy_ratio(line) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(60, 4), (10, 30)])
def test_eigenvalue_entropy_is_that_of_the_covariance(n, d):
    x = cloud(n, d)
    p = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1][: min(d, n - 1)]
    p = p / p.sum()
    np.testing.assert_allclose(
        eigenvalue_entropy_ratio(x), -(p @ np.log(p)) / np.log(min(d, n - 1)), rtol=1e-9
    )


def test_alignment_of_positive_pairs():
    x = cloud(20, 6)
    y = cloud(20, 6, 1)
    by_hand = [np.linalg.norm(unit(a) - unit(b)) for a, b in zip(x, y, strict=True)]
    assert alignment(x, y) == pytest.approx(np.mean(np.square(by_hand)))
    assert alignment(x, y, alpha=1) == pytest.approx(np.mean(by_hand))
    assert alignment(x, 7 * x) == pytest.approx(0)
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment([[1, 0]], [[0, 1]]) == pytest.approx(2)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(4, 30),
    d=st.integers(2, 12),
    seed=st.integers(0, 99),
    scale=st.floats(1e-200, 1e100),
)
def test_rotation_scale_and_order_change_nothing(n, d, seed, scale):
    x = cloud(n, d, seed)
    y = cloud(n, d, seed + 100)
    turn = rotation(d, seed)
    for function in ALL:
        before = function(x)
        assert function(x[::-1] @ turn) == pytest.approx(before, abs=1e-9)
        assert function(scale * x) == pytest.approx(before, abs=1e-9)
    assert alignment(x @ turn, scale * y @ turn) == pytest.approx(alignment(x, y), abs=1e-9)
    assert -8 <= uniformity(x) <= 1e-9
    assert 0 <= eigenvalue_entropy_ratio(x) <= 1 + 1e-9


def test_what_cannot_be_measured_is_refused():
    good = cloud(10, 3)
    bad = good.copy()
    bad[2, 1] = np.nan
    for function in ALL:
        with pytest.raises(InputError, match="NaN or infinity in 1 of 10 rows"):
            function(bad)
        with pytest.raises(InputError, match="have 1 rows"):
            function(good[:1])
        for shape in (good[0], good[None], np.zeros((4, 0)), "text"):
            with pytest.raises(InputError, match="an array"):
                function(shape)
    for function in (mean_cosine, uniformity):
        with pytest.raises(InputError, match="1 of 2 embeddings are zero"):
            function([[0, 0], [1, 2]])
    with pytest.raises(InputError, match="one shape"):
        alignment(good, good[:9])
    with pytest.raises(InputError, match="one shape"):
        alignment(good, good[:, :2])
    with pytest.raises(InputError, match="all rows are equal"):
        eigenvalue_entropy_ratio(np.full((6, 3), 0.1))
    with pytest.raises(InputError, match="one dimension"):
        eigenvalue_entropy_ratio(good[:, :1])


def test_the_functions_need_no_torch():
    code = (
        "import sys, kvlens.analysis.geometry as g; "
        "g.uniformity([[1, 2], [2, 1]]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_effective_rank_counts_equal_directions_and_weighs_unequal_ones():
    for rank in (1, 3, 8):
        assert effective_rank(with_singular_values(40, 10, np.full(rank, 2.5))) == pytest.approx(
            rank
        )
    # p = (3/4, 1/4): exp(H) = 4 / 3^(3/4). From squares it would be another number.
    assert effective_rank(with_singular_values(20, 5, np.array([3.0, 1.0]))) == pytest.approx(
        4 / 3**0.75
    )
    assert effective_rank(normal(500, 6)) > 5.9
