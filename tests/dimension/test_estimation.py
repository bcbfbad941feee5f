"""From states to a profile: refusals, laws, memory, and layers left out."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifolds import ball, embed, read, trace_of_balls
from threadpoolctl import threadpool_limits

from kvlens.dimension.estimation import estimate, estimate_points
from kvlens.dimension.profile import IDProfile
from kvlens.store.errors import InputError


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity(bad):
    points = ball(100, 4, seed=0)
    points[[3, 9], 2] = bad
    with pytest.raises(
        InputError, match=r"layer 7: NaN or infinity in 2 of 100 states: .*`dtype=\"float32\"`"
    ):
        estimate_points(points, layer=7)


def test_unknown_estimators_and_shapes():
    with pytest.raises(InputError, match="unknown estimator 'pca': the known ones are twonn, mle"):
        estimate_points(ball(60, 3, 0), ("twonn", "pca"))
    with pytest.raises(InputError, match="no estimator given"):
        estimate_points(ball(60, 3, 0), ())
    with pytest.raises(InputError, match=r"not of shape \[60\]"):
        estimate_points(ball(60, 3, 0)[:, 0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_other_types_and_a_constant_coordinate(dtype):
    points = np.round(1000 * ball(300, 4, seed=0))
    widened = np.c_[points, np.full(300, 7)].astype(dtype)
    assert read(widened) == pytest.approx(read(points), rel=1e-9)


@st.composite
def clouds(draw):
    return ball(draw(st.integers(60, 120)), draw(st.integers(1, 6)), draw(st.integers(0, 10**6)))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(clouds(), st.floats(-100, 100), st.floats(1e-4, 1e4), st.integers(0, 10**6))
def test_rotation_translation_scale_and_order_change_nothing(points, shift, scale, seed):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((points.shape[1], points.shape[1])))[0]
    moved = scale * (points @ rotation + shift)
    with threadpool_limits(1):
        estimates, scales = first = estimate_points(points)
        assert estimate_points(points) == first
        others = [estimate_points(moved)]
        # Of near copies the first is kept, so that their order counts.
        if not estimates["mle"].dropped:
            others.append(estimate_points(moved[rng.permutation(len(points))]))
    for other, other_scales in others:
        assert other_scales.values == pytest.approx(scales.values, rel=1e-6)
        for name, expected in estimates.items():
            assert other[name].value == pytest.approx(expected.value, rel=1e-6)
            assert other[name].stderr == pytest.approx(expected.stderr, rel=1e-6)
            assert (other[name].n, other[name].dropped) == (expected.n, expected.dropped)


@pytest.mark.slow
def test_memory_stays_far_below_a_distance_matrix():
    points = ball(5000, 8, seed=0)
    tracemalloc.start()
    estimate_points(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5000**2 * 8 / 8


def test_threads_do_not_change_the_result():
    points = embed(ball(600, 7, seed=5), 100).astype(np.float32)
    with threadpool_limits(1):
        alone = estimate_points(points)
    assert estimate_points(points) == alone


def test_estimate_of_a_trace(tmp_path):
    seen = []
    profile = estimate(trace_of_balls(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert profile.layers == (0, 1, 2)
    alone, scales = estimate_points(trace_of_balls().states(1), layer=1)
    assert profile.estimates["mle"][1] == alone["mle"]
    assert profile.scales[1] == scales
    assert list(profile.values("twonn")) == [each.value for each in profile.estimates["twonn"]]
    assert profile.stderrs("mle")[1] == alone["mle"].stderr
    assert profile.versions["torch"] == "1.2.3"  # of the recording
    assert profile.versions["numpy"] == np.__version__  # of the estimate
    profile.save(tmp_path / "id.json")
    assert IDProfile.load(tmp_path / "id.json") == profile


def test_a_layer_without_distinct_points_is_left_out_and_named(tmp_path):
    profile = estimate(trace_of_balls(), states="k")
    assert profile.layers == (1, 2)
    assert profile.warnings[-1].startswith("layer 0 left out: 1 of 120 points are distinct")
    profile.save(tmp_path / "id.json")
    assert IDProfile.load(tmp_path / "id.json") == profile
    with pytest.raises(
        InputError, match="no layer has an ID estimate: 40 of 40 points are distinct"
    ):
        estimate(trace_of_balls(n=40))


def test_all_tokens_are_said_to_depend_on_each_other():
    profile = estimate(trace_of_balls("all"), estimators=("twonn",))
    for each in profile.estimates["twonn"]:
        assert any("not independent" in text for text in each.warnings)
    start = "twonn at layers 0-2: not independent"
    assert sum(line.startswith(start) for line in profile.warnings) == 1
    keys = estimate(trace_of_balls("all"), states="k", estimators=("twonn",))  # always one per text
    assert keys.points == "last"
    assert not any("not independent" in line for line in keys.warnings)
