"""Bins of tokens: they fit, they are even, and they average exactly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvlens.reporting.bins import MOST_BINS, PACKED_BYTES, Bins, fitting_bins


@given(st.integers(1, 300), st.integers(1, 2000), st.integers(0, 10_000_000))
def test_as_many_bins_as_fit(n_tokens, n_maps, budget):
    def size(n):
        squares = 2 if n == n_tokens else 3
        return n_maps * PACKED_BYTES * (squares * n * (n + 1) / 2 + 2 * n)

    most = min(n_tokens, MOST_BINS)
    n_bins = fitting_bins(n_tokens, n_maps, budget)
    assert 0 <= n_bins <= most
    assert n_bins == 0 or size(n_bins) <= budget
    assert n_bins == most or size(n_bins + 1) > budget


@given(st.integers(1, 300), st.integers(1, 64))
def test_bins_hold_every_token_once_and_are_even(n_tokens, n_bins):
    bins = Bins.of(n_tokens, min(n_tokens, n_bins))
    assert [i for first, after in bins.spans for i in range(first, after)] == list(range(n_tokens))
    sizes = [after - first for first, after in bins.spans]
    assert max(sizes) - min(sizes) <= 1
    assert bins.single == (n_bins >= n_tokens)


def test_squares_are_means_over_queries_and_sums_over_keys():
    weights = np.random.default_rng(0).random((2, 3, 7, 7))
    bins = Bins.of(7, 3)
    square = bins.square(weights)
    cells = [(i, j) for i in range(3) for j in range(i + 1)]
    for at, (i, j) in enumerate(cells):
        block = weights[:, :, slice(*bins.spans[i]), slice(*bins.spans[j])]
        np.testing.assert_allclose(square[:, :, at], block.sum(3).mean(2))
