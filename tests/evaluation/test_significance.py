"""The bootstrap against resampled items spelled out, and against what theory says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, spearmanr
from sklearn.metrics import average_precision_score

from kvlens.evaluation.significance import (
    bootstrap,
    draws,
    holm,
    interval,
    p_value,
    spearman,
    statistic,
)

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12)


def mean(sample):
    return sample[0].mean()


def max_average_precision(sample):
    if not sample[0].any():
        return np.nan
    return max(average_precision_score(sample[0], scores) for scores in sample[1:])


def correlation(sample):
    if any(len(set(row)) == 1 for row in sample):
        return np.nan
    return spearmanr(*sample).statistic


@pytest.mark.parametrize(
    ("metric", "of_sample"),
    [
        ("accuracy", mean),
        ("max_ap", max_average_precision),
        ("cosine_spearman", correlation),
    ],
)
@given(pairs=PAIRS, seed=st.integers(0, 99))
def test_counts_as_weights_are_the_items_repeated(metric, of_sample, pairs, seed):
    """Ties included."""
    x = np.array(pairs, dtype=float).T
    if metric == "max_ap":
        x = np.vstack([x[0] > 2, x])
    n = x.shape[1]
    chosen = np.random.default_rng(seed).integers(n, size=(5, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in chosen])
    expected = [of_sample(x[:, row]) for row in chosen]
    np.testing.assert_allclose(statistic(x, counts, metric), expected, atol=1e-9)


def test_bootstrap_interval_is_the_normal_one_for_a_mean():
    x = np.random.default_rng(1).normal(3, 2, (1, 400))
    half = norm.ppf(0.975) * x.std() / 20
    expected = (x.mean() - half, x.mean() + half)
    assert interval(bootstrap([x], "accuracy")) == pytest.approx(expected, abs=0.1 * half)


def test_parts_are_resampled_independently():
    x = np.random.default_rng(1).normal(3, 2, (1, 400))
    parts = bootstrap([x, x + 1], "accuracy")
    assert parts.mean() == pytest.approx(x.mean() + 0.5, abs=0.05)
    assert parts.std() == pytest.approx(x.std() / 20 / np.sqrt(2), rel=0.1)


def test_bootstrap_interval_of_a_correlation():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 300))
    x[1] += x[0]
    chosen = np.random.default_rng(3).integers(300, size=(2000, 300))
    expected = np.percentile([spearmanr(*x[:, row]).statistic for row in chosen], (2.5, 97.5))
    assert interval(bootstrap([x], "cosine_spearman")) == pytest.approx(expected, abs=0.015)


def test_both_schemes_draw_as_they_always_did():
    """Published intervals are of these draws."""
    chosen = np.random.default_rng(0).integers(0, 40, size=(1000, 40))
    np.testing.assert_array_equal(draws(40), [np.bincount(row, minlength=40) for row in chosen])
    x = np.random.default_rng(4).normal(size=(1, 40))
    chosen = np.random.default_rng([0, 0]).integers(40, size=(2000, 40))
    np.testing.assert_allclose(bootstrap([x], "accuracy"), x[0, chosen].mean(1), atol=1e-12)


def test_an_interval_of_each_set_leaves_out_what_is_undefined():
    samples = np.random.default_rng(5).normal(size=(3, 500))
    low, high = interval(samples)
    np.testing.assert_array_equal([low, high], np.percentile(samples, (2.5, 97.5), axis=1))
    with_nan = np.concatenate([samples[0], [np.nan] * 50])
    assert interval(with_nan) == (low[0], high[0])


def test_spearman_of_sets():
    rng = np.random.default_rng(6)
    cosines = rng.normal(size=(2, 30))
    human = rng.normal(size=30)
    scores = spearman(cosines, human, np.ones((1, 30)))
    expected = [[100 * spearmanr(row, human).statistic] for row in cosines]
    np.testing.assert_allclose(scores, expected, atol=1e-9)


@given(
    arrays(float, (3, 12), elements=st.integers(0, 4).map(float)),
    arrays(float, 12, elements=st.integers(0, 3).map(float)),
)
def test_spearman_is_scipys_with_ties(cosines, human):
    cosines[:, :2] = (0, 5)
    human[:2] = (0, 5)
    counts = np.array([[1] * 12, [2] * 6 + [0] * 6, [1, 3, 0, 2, 0, 0, 4, 0, 0, 0, 1, 1]])
    draws_of_items = [np.repeat(np.arange(12), count) for count in counts]
    expected = [
        [100 * spearmanr(row[items], human[items]).statistic for items in draws_of_items]
        for row in cosines
    ]
    np.testing.assert_allclose(spearman(cosines, human, counts), expected, atol=1e-9)


def test_p_values():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 500))
    b = a + rng.normal(0.05, 0.1, a.shape)
    scores_a = bootstrap([a], "x")
    scores_b = bootstrap([b], "x")
    # Intervals overlap widely, the paired difference is plain.
    assert np.percentile(scores_a, 97.5) > np.percentile(scores_b, 2.5)
    assert p_value(scores_b - scores_a) < 0.002
    assert p_value(scores_a - scores_a) == 1
    undefined = np.where(np.arange(2000) < 1000, np.nan, 1.0)  # draws without a score say nothing
    assert p_value(undefined) == pytest.approx(2 / 1001)
    assert p_value(np.full(2000, np.nan)) == 1


def test_without_a_difference_one_p_in_twenty_is_below_a_twentieth():
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(2, 1, 100)) for _ in range(300))
    differences = (bootstrap([x], "x", 400) - bootstrap([y], "x", 400) for x, y in noise)
    rejected = [p_value(difference) < 0.05 for difference in differences]
    assert 0.02 < np.mean(rejected) < 0.09


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
