"""Sink: planted jumps are found at their block; random models have none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo import TEXTS

from kvlens.dimension.estimation import estimate
from kvlens.dimension.sink import MASSIVE, Sink, sink_of
from kvlens.tracing.recording import record


def ratios(*rows):
    return np.array(rows, dtype=np.float32)


@given(st.integers(0, 9), st.integers(1, 8), st.integers(0, 10**6))
def test_a_planted_spike_is_found_at_its_block(block, n, seed):
    rng = np.random.default_rng(seed)
    planted = rng.uniform(0.5, 2.5, (n, 11))
    planted[:, block + 1 :] += 60 * 0.9 ** np.arange(10 - block)
    sink = sink_of(planted)
    assert (sink.block, sink.n, sink.share) == (block, n, 1.0)
    assert sink.before == pytest.approx(np.median(planted[:, block]))
    assert sink.after == pytest.approx(np.median(planted[:, block + 1]))


def test_texts_vote():
    at_0, at_1, none = (1, 30, 20), (1, 2, 30), (1, 2, 3)
    one_token = (0, 0, 0)
    assert sink_of(ratios(at_1, at_0, at_1, none)) == Sink(
        block=1, before=2, after=30, n=4, share=0.5
    )
    assert sink_of(ratios(none, at_1, none, one_token)) == Sink(
        block=None, before=1, after=2, n=3, share=2 / 3
    )
    # The earlier block wins, and any block over none.
    assert sink_of(ratios(at_1, at_0)).block == 0
    assert sink_of(ratios(none, at_1)).block == 1
    assert sink_of(ratios(one_token)) is None


def test_the_largest_jump_counts_and_not_the_first():
    """SmolLM2-135M: block 2 already lengthens position 0, block 11 writes the activation."""
    assert sink_of(ratios((1.1, 1.3, 2.1, 9.0, 1.0, 147.7, 30.0))).block == 4


def test_below_the_threshold_there_is_none():
    assert sink_of(ratios((1, MASSIVE - 0.1))).block is None
    assert sink_of(ratios((1, MASSIVE))).block == 0


def test_random_models_have_none(lm):
    trace = record(lm, TEXTS * 12, "raw", keep=("k",))
    sink = sink_of(trace.position_zero.numpy())
    assert sink.block is None
    assert sink.share == 1
    assert sink.after < 3
    assert "no massive activation at position 0 in 100 % of 48 texts" in str(sink)


def test_the_profile_of_a_recording_says_it(zoo):
    texts = [f"{i} apples and {i * i} pears" for i in range(60)]
    trace = record(zoo("llama"), texts)
    profile = estimate(trace, estimators=("twonn",))
    assert profile.sink == sink_of(trace.position_zero.numpy())
    assert estimate(trace, "v", ("twonn",)).sink == profile.sink
    assert str(profile.sink) in str(profile)
    part = record(zoo("llama"), texts, layers=[1, 2])
    assert estimate(part, estimators=("twonn",)).sink is None
