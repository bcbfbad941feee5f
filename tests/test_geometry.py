"""Geometry of embeddings against double loops, closed forms and the invariances that the formulas promise."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

import kvlens
from kvlens.analysis.geometry import (
    alignment,
    eigenvalue_entropy_ratio,
    mean_cosine,
    uniformity,
)
from kvlens.analysis.method_geometry import PLAIN, Geometry, measure
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.spec import NO_REROUTING
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by

ALL = (mean_cosine, eigenvalue_entropy_ratio, uniformity)


def cloud(n, d, seed=0):
    """Points around an offset, with axes of different lengths."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.geomspace(0.3, 3, d) + rng.normal(size=d)


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(d, d)))[0]


def unit(x):
    return x / np.linalg.norm(x)


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
    # The mean of exp(-4 (1 - cos)) over the circle is exp(-4) I_0(4); pairs of a point with itself are left out.
    mean = (np.exp(-4) * np.i0(4) * 4000 - 1) / 3999
    np.testing.assert_allclose(uniformity(circle), np.log(mean), rtol=1e-9)


def test_the_ends_of_the_scales():
    same, axes = np.ones((4, 3)), np.vstack([np.eye(3), -np.eye(3)])
    assert mean_cosine(same) == pytest.approx(1)
    assert uniformity(same) == pytest.approx(0)
    assert uniformity([[1, 2], [-1, -2]]) == pytest.approx(-8)
    assert mean_cosine(axes) == pytest.approx(-1 / 5)
    assert eigenvalue_entropy_ratio(axes) == pytest.approx(1)
    assert eigenvalue_entropy_ratio(np.eye(5, 40)) == pytest.approx(
        1
    )  # as even as five points can be
    assert eigenvalue_entropy_ratio(np.outer(np.arange(9.0), [1, 2, 3]) + 50) == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize(("n", "d"), [(60, 4), (10, 30)])
def test_eigenvalue_entropy_is_that_of_the_covariance(n, d):
    x = cloud(n, d)
    p = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1][: min(d, n - 1)]
    p = p / p.sum()
    np.testing.assert_allclose(
        eigenvalue_entropy_ratio(x), -(p @ np.log(p)) / np.log(min(d, n - 1)), rtol=1e-9
    )


def test_alignment_of_positive_pairs():
    x, y = cloud(20, 6), cloud(20, 6, 1)
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
    x, y, turn = cloud(n, d, seed), cloud(n, d, seed + 100), rotation(d, seed)
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


TEXTS = [f"line {i} about {'rivers' if i % 2 else 'stones'}" for i in range(24)]
PAIRS = [("a small cat", "a little cat"), ("it rains", "rain falls"), ("he left", "he went away")]


def test_measure_is_the_functions_on_each_methods_own_embeddings(tmp_path):
    lm, calls = tiny("llama"), []
    found = measure(
        lm,
        (0, 1, 2, 3),
        ("mean", PLAIN, "kv_embedding"),
        texts=TEXTS,
        pairs=PAIRS,
        pairs_source="three pairs",
        cache=EmbeddingCache(tmp_path / "cache"),
        progress=lambda done, total: calls.append((done, total)),
    )
    again = measure(
        lm,
        (0, 1, 2, 3),
        ("mean", NO_REROUTING, "kv_embedding"),
        texts=TEXTS,
        pairs=PAIRS,
        pairs_source="three pairs",
    )
    assert found == again
    with made_by("by hand"):
        assert measure(lm, (), ("mean",), texts=TEXTS).command == "by hand"
    assert Geometry.load(found.save(tmp_path / "geometry.json")) == found
    assert (found.n, found.n_pairs, len(found.sentences)) == (24, 3, 12)
    assert found.groups == tuple(i for i in range(4) for _ in range(3))
    assert [total for _, total in calls] == [calls[0][1]] * len(calls)
    assert calls[-1][0] == calls[-1][1]
    layers = {"mean": None, PLAIN: (), "kv_embedding": (0, 1, 2, 3)}
    for row in found.methods:
        encoder = kvlens.Encoder(lm, row.label.split()[0], layers[row.label])
        X = encoder.encode(TEXTS)
        assert row.mean_cosine == pytest.approx(mean_cosine(X), abs=1e-6)
        assert row.uniformity == pytest.approx(uniformity(X), abs=5e-6)
        assert row.eigenvalue_entropy_ratio == pytest.approx(eigenvalue_entropy_ratio(X), abs=1e-4)
        sides = (encoder.encode(list(side)) for side in zip(*PAIRS, strict=True))
        assert row.alignment == pytest.approx(alignment(*sides), abs=1e-4)
        truth = encoder.similarity(*[encoder.encode(list(found.sentences))] * 2).numpy()
        np.testing.assert_allclose(found.cosines[row.label], truth, atol=2e-4)
    rerouted, plain = found.methods[2].uniformity, found.methods[1].uniformity
    assert abs(rerouted - plain) > 5e-5  # they are not the same embeddings


def test_measure_without_pairs_and_with_too_little():
    lm = tiny("llama")
    found = measure(lm, (1,), ("mean",), texts=TEXTS)
    assert found.methods[0].alignment is None
    assert (found.n_pairs, found.pairs) == (0, "")
    with pytest.raises(InputError, match="19 texts say little"):
        measure(lm, (1,), texts=TEXTS[:19])
    with pytest.raises(InputError, match="unknown method 'magic'"):
        measure(lm, (1,), ("magic",), texts=TEXTS)
    with pytest.raises(InputError, match="layer 9 is outside"):
        measure(lm, (9,), (PLAIN,), texts=TEXTS)


def test_the_functions_need_no_torch():
    code = "import sys, kvlens.analysis.geometry as g; g.uniformity([[1, 2], [2, 1]]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
