"""ID per layer: known manifolds, scikit-dimension's own answers, its traps, errors and laws."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from kvlens.dimension.doubts import BALL_LIMITS, BALL_POINTS
from kvlens.dimension.estimation import estimate, estimate_points
from kvlens.dimension.neighbours import nearest_neighbours
from kvlens.dimension.profile import IDEstimate, IDProfile, NoEstimate, ScaleProfile
from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.trace import Points, Trace


def ball(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / d)


def sphere(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng([seed, n, d]).standard_normal((n, d + 1))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def swiss_roll(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, n])
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return np.c_[angle * np.cos(angle), 21 * rng.random(n), angle * np.sin(angle)]


def embed(points: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """The points, isometrically, in `width` dimensions, one coordinate of which has the offset 1e3."""
    noise = np.random.default_rng(seed).standard_normal((width, points.shape[1]))
    wide = points @ np.linalg.qr(noise)[0].T
    wide[:, 5] += 1e3
    return wide


def read(points: np.ndarray) -> dict[str, float]:
    return {name: one.value for name, one in estimate_points(points)[0].items()}


# (maker, dimension, mean TwoNN, mean MLE), n = 1,000, as published for scikit-dimension's estimators; the tolerances
# are three standard deviations of one set of points (4 % and 1.3 %).
MANIFOLDS = [
    (ball, 2, 1.98, 1.95),
    (ball, 5, 4.68, 4.53),
    (ball, 10, 8.84, 8.26),
    (ball, 20, 15.7, 14.3),
    (sphere, 5, 4.91, 4.79),
    (sphere, 10, 9.41, 8.73),
    (swiss_roll, 2, 2.02, 1.91),
]


@pytest.mark.parametrize(("make", "d", "twonn", "mle"), MANIFOLDS)
def test_known_manifolds(make, d, twonn, mle):
    points = make(1000, d, seed=3)
    plain = read(points)
    assert plain["twonn"] == pytest.approx(twonn, rel=0.12)
    assert plain["mle"] == pytest.approx(mle, rel=0.04)
    assert read(embed(points, 576)) == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize(("make", "d"), [(ball, 10), (swiss_roll, 2)])
def test_embedding_in_4096_dimensions_with_an_offset_changes_nothing(make, d):
    points = make(1000, d, seed=4)
    wide = embed(points, 4096)
    assert read(wide) == pytest.approx(read(points), rel=1e-6)
    # As recorded: float32 resolves 6e-5 beside an offset of 1e3.
    assert read(wide.astype(np.float32)) == pytest.approx(read(points), rel=2e-3)


@pytest.mark.parametrize(("make", "d"), [(ball, 5), (sphere, 10), (swiss_roll, 2)])
def test_equals_scikit_dimension_on_clean_data(make, d):
    import skdim

    points = embed(make(500, d, seed=1), 40)
    points[:, 5] -= 1e3
    estimates, scales = estimate_points(points)
    gride = skdim.id.GRIDE(multiscale=True, range_max=64).fit(points)
    assert estimates["twonn"].value == pytest.approx(
        skdim.id.TwoNN().fit(points).dimension_, rel=1e-9
    )
    mle = skdim.id.MLE().fit(points, n_neighbors=20, comb="mle").dimension_
    assert estimates["mle"].value == pytest.approx(mle, rel=1e-9)
    assert scales.values == pytest.approx(gride.dimension_scales_, rel=1e-9)
    assert scales.neighbours == tuple(2 * gride.scales_)
    # scikit-dimension's errors take the points for independent, which wide neighbourhoods are not.
    assert scales.stderrs[-1] > 1.3 * gride.error_scales_[-1]


def assert_neighbours_exact(points: np.ndarray) -> None:
    neighbours = nearest_neighbours(points, 64)
    truth = cdist(points, points)
    np.fill_diagonal(truth, np.inf)
    order = np.argsort(truth, axis=1, kind="stable")[:, :64]
    assert np.array_equal(neighbours.indices, order)
    assert np.array_equal(neighbours.distances, np.take_along_axis(truth, order, axis=1))


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e10])
@pytest.mark.parametrize("share", [1, 3])
def test_neighbours_are_exact_with_offsets(offset, share):
    points = ball(300, 6, seed=2) @ np.random.default_rng(0).standard_normal((6, 80))
    points[::share, 7] += offset
    assert_neighbours_exact(points - points.mean(axis=0))


def test_neighbours_are_exact_with_ties():
    assert_neighbours_exact(np.random.default_rng(0).integers(0, 4, (300, 6)).astype(float))


def test_an_offset_of_some_points_changes_nothing():
    left, right = embed(ball(400, 5, seed=1), 50), embed(ball(400, 5, seed=2), 50)
    near, far = np.r_[left, right + 10.0], np.r_[left, right + 1e5]
    assert read(far) == pytest.approx(read(near), rel=1e-6)


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


# --- copies of points


def test_one_duplicate_pair():
    import skdim

    points = ball(300, 5, seed=0)
    with pytest.warns(RuntimeWarning):
        assert (
            skdim.id.MLE().fit(np.r_[points, points[7:8]], comb="mle").dimension_ == 0
        )  # the trap
    estimates, _ = estimate_points(np.r_[points, points[7:8]])
    assert {name: one.value for name, one in estimates.items()} == pytest.approx(
        read(points), rel=1e-9
    )
    assert all((one.n, one.dropped, one.warnings) == (300, 1, ()) for one in estimates.values())


def test_a_tenth_of_the_rows_duplicated():
    points = embed(ball(500, 5, seed=0), 64)
    estimates, _ = estimate_points(np.r_[points, points[:50]])
    assert estimates["mle"].value == pytest.approx(read(points)["mle"], rel=1e-9)
    assert estimates["mle"].dropped == 50
    assert any("50 of 550 points are copies" in text for text in estimates["mle"].warnings)


@pytest.mark.parametrize("copies", [2, 9, 40])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_near_copies_with_float32_noise_count_once(copies, offset):
    rng = np.random.default_rng(0)
    points = embed(ball(400, 6, seed=0), 576)
    points[:, 5] += offset - 1e3
    points = points.astype(np.float32)
    noise = rng.standard_normal((8 * (copies - 1), 576)).astype(np.float32)
    noise *= 5e-5 / np.linalg.norm(
        noise, axis=1, keepdims=True
    )  # 2e-4 of the distance to the 10th neighbour
    estimates, _ = estimate_points(np.r_[points, np.repeat(points[:8], copies - 1, axis=0) + noise])
    assert estimates["twonn"].dropped == 8 * (copies - 1)
    assert estimates["twonn"].value == pytest.approx(
        read(points)["twonn"], rel=1e-5
    )  # first members are kept


def test_every_text_twice():
    points = embed(ball(200, 4, seed=0), 576)
    noisy = points + 1e-6 * np.random.default_rng(0).standard_normal(points.shape)
    mixed = np.stack([points, noisy], axis=1).reshape(400, -1).astype(np.float32)
    estimates, _ = estimate_points(mixed)
    assert (estimates["twonn"].n, estimates["twonn"].dropped) == (200, 200)


def test_close_points_of_one_dimension_are_kept():
    points = np.random.default_rng(0).random((1000, 1))
    estimates, _ = estimate_points(points)
    assert estimates["twonn"].dropped <= 20  # 1 % expected
    assert estimates["twonn"].value == pytest.approx(1, abs=0.15)
    assert estimates["mle"].value == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_identical_states_are_one_point(noise):
    same = np.full((200, 30), 1e3) + noise * np.random.default_rng(0).random((200, 30))
    with pytest.raises(
        NoEstimate, match=r"layer 4: 1 of 200 points are distinct, at least 50 are needed"
    ):
        estimate_points(same.astype(np.float32), layer=4)


# --- refused input


def test_too_few_distinct_points():
    points = ball(49, 4, seed=0)
    with pytest.raises(InputError, match="49 of 98 points are distinct"):
        estimate_points(np.r_[points, points])
    estimates, scales = estimate_points(ball(50, 4, seed=0))
    assert estimates["mle"].n == 50
    assert scales.neighbours == (2, 4, 8)


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


def test_degenerate_distances_are_named():
    corners = np.eye(100)  # all distances equal
    grid = np.indices((12, 12)).reshape(2, -1).T.astype(float)
    with pytest.raises(NoEstimate, match="layer 2: GRIDE finds only tied distances"):
        estimate_points(corners, layer=2)
    with pytest.raises(NoEstimate, match="tied"):
        estimate_points(grid)
    mostly = np.r_[
        np.c_[grid, np.zeros(144)], 100 + ball(14, 3, 0)
    ]  # the tenth that TwoNN discards is not tied
    with pytest.raises(NoEstimate, match=r"twonn came out as 0"):
        estimate_points(mostly)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_other_types_and_a_constant_coordinate(dtype):
    points = np.round(1000 * ball(300, 4, seed=0))
    widened = np.c_[points, np.full(300, 7)].astype(dtype)
    assert read(widened) == pytest.approx(read(points), rel=1e-9)


# --- errors and warnings


def test_standard_errors_cover_the_estimators_mean():
    with threadpool_limits(1):
        runs = [estimate_points(ball(300, 5, seed=s)) for s in range(200)]
    for name in ("twonn", "mle"):
        value = np.array([run[0][name].value for run in runs])
        stderr = np.array([run[0][name].stderr for run in runs])
        assert 0.90 <= np.mean(np.abs(value - value.mean()) < 1.96 * stderr) <= 0.985
        assert stderr.mean() == pytest.approx(value.std(), rel=0.2)
    scales = np.array([run[1].values for run in runs]).std(axis=0)
    errors = np.array([run[1].stderrs for run in runs]).mean(axis=0)
    assert (errors > 0.85 * scales).all()
    assert (errors < 1.7 * scales).all()


def test_standard_errors_hold_for_the_fewest_points():
    """Where 20 neighbours are half of the points, the mean that is subtracted takes much of the variance with it."""
    with threadpool_limits(1):
        found = [estimate_points(ball(50, 5, seed=s))[0]["mle"] for s in range(200)]
    value, stderr = np.array([(one.value, one.stderr) for one in found]).T
    assert 0.93 <= np.mean(np.abs(value - value.mean()) < 1.96 * stderr) <= 0.995


@pytest.mark.parametrize(
    ("name", "n", "d", "runs"), [("twonn", 100, 13, 60), ("mle", 300, 9, 10), ("mle", 1000, 12, 3)]
)
def test_the_rule_for_too_few_points_is_what_balls_show(name, n, d, runs):
    limit = BALL_LIMITS[name][BALL_POINTS.index(n)]
    with threadpool_limits(1):
        found = [estimate_points(ball(n, d, seed=s), (name,))[0][name] for s in range(runs)]
    value = np.mean([one.value for one in found])
    assert value / d == pytest.approx(0.8, abs=0.03)
    assert value == pytest.approx(limit, rel=0.05)
    for one in found:
        assert any(text.startswith("n too small") for text in one.warnings) == (one.value > limit)


def test_warnings_on_scales():
    def said(points):
        return {name: " ".join(one.warnings) for name, one in estimate_points(points)[0].items()}

    def noisy(points, sigma):
        wide = embed(points, 576)
        return wide + sigma * np.random.default_rng(0).standard_normal(wide.shape)

    for d in (2, 5, 8):
        assert not any("plateau" in text for text in said(ball(1000, d, seed=0)).values())
    for text in said(noisy(ball(1000, 2, 0), 0.01)).values():
        assert "no plateau over scales: GRIDE goes from" in text
    slight = said(noisy(ball(1000, 2, 0), 0.001))  # the noise reaches only the first neighbours
    assert "off the plateau: GRIDE reads" in slight["twonn"]
    assert "plateau" not in slight["mle"]


# --- laws


@st.composite
def clouds(draw):
    return ball(draw(st.integers(60, 120)), draw(st.integers(1, 6)), draw(st.integers(0, 10**6)))


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
        if not estimates[
            "mle"
        ].dropped:  # of near copies the first is kept, so that their order counts
            others.append(estimate_points(moved[rng.permutation(len(points))]))
    for other, other_scales in others:
        assert other_scales.values == pytest.approx(scales.values, rel=1e-6)
        for name, one in estimates.items():
            assert other[name].value == pytest.approx(one.value, rel=1e-6)
            assert other[name].stderr == pytest.approx(one.stderr, rel=1e-6)
            assert (other[name].n, other[name].dropped) == (one.n, one.dropped)


# --- a trace in, a file out


def trace(points: Points = "last", n: int = 120, n_layers: int = 3) -> Trace:
    """A trace of balls in 3, 4, 5 dimensions; the keys of layer 0 are the same in every text."""
    info = ModelInfo(
        name="balls",
        revision="sha256:0",
        architecture="LlamaForCausalLM",
        n_layers=n_layers,
        n_heads=2,
        n_kv_heads=1,
        d_head=6,
        d_model=12,
        vocab_size=99,
        max_positions=64,
        dtype="float32",
        device="cpu",
        tokenizer="none",
    )
    hidden = np.stack([embed(ball(n, 3 + layer, 0), 12) for layer in range(n_layers)], axis=1)
    keys = hidden[:, :, None, 6:].copy()
    keys[:, 0] = 1.0
    return Trace(
        model=info,
        prompt=PROMPTS["kv-document"],
        texts=TextsInfo(source="made", n=n, sha256="0"),
        points=points,
        layers=tuple(range(n_layers)),
        n_tokens=(5,) * n,
        n_truncated=0,
        tensors={
            "hidden": torch.tensor(hidden, dtype=torch.float32),
            "k": torch.tensor(keys, dtype=torch.float32),
        },
        versions={"torch": "1.2.3", "numpy": "0"},
    )


def test_estimate_of_a_trace(tmp_path):
    seen = []
    profile = estimate(trace(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert profile.layers == (0, 1, 2)
    alone, scales = estimate_points(trace().states(1), layer=1)
    assert profile.estimates["mle"][1] == alone["mle"]
    assert profile.scales[1] == scales
    assert list(profile.values("twonn")) == [one.value for one in profile.estimates["twonn"]]
    assert profile.stderrs("mle")[1] == alone["mle"].stderr
    assert profile.versions["torch"] == "1.2.3"  # of the recording
    assert profile.versions["numpy"] == np.__version__  # of the estimate
    profile.save(tmp_path / "id.json")
    assert IDProfile.load(tmp_path / "id.json") == profile


def test_a_layer_without_distinct_points_is_left_out_and_named(tmp_path):
    profile = estimate(trace(), states="k")
    assert profile.layers == (1, 2)
    assert profile.warnings[-1].startswith("layer 0 left out: 1 of 120 points are distinct")
    profile.save(tmp_path / "id.json")
    assert IDProfile.load(tmp_path / "id.json") == profile
    with pytest.raises(
        InputError, match="no layer has an ID estimate: 40 of 40 points are distinct"
    ):
        estimate(trace(n=40))


def test_all_tokens_are_said_to_depend_on_each_other():
    profile = estimate(trace("all"), estimators=("twonn",))
    assert all(
        any("not independent" in text for text in one.warnings)
        for one in profile.estimates["twonn"]
    )
    assert (
        sum(line.startswith("twonn at layers 0-2: not independent") for line in profile.warnings)
        == 1
    )
    keys = estimate(trace("all"), states="k", estimators=("twonn",))  # always one per text
    assert keys.points == "last"
    assert not any("not independent" in line for line in keys.warnings)


def test_warnings_are_grouped():
    base = estimate(trace())
    few, copies = "n too small: from 120 points", "duplicates: 9 of 129 points"
    rows = {
        "twonn": [(copies,), (), (copies,)],
        "mle": [(few, copies), (few + "!",), (few, copies)],
    }
    estimates = {
        name: tuple(
            IDEstimate(layer=i, value=3, stderr=1, n=120, dropped=0, warnings=w)
            for i, w in enumerate(row)
        )
        for name, row in rows.items()
    }
    assert base.model_copy(update={"estimates": estimates}).warnings == [
        f"twonn, mle at layers 0, 2: {copies}",
        f"mle at layers 0-2: {few} (at layer 0)",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has ID profile version 2, this kvlens reads 1: profile the model again"),
        ({"version": None}, "has ID profile version None"),
        ({"format": "kvlens.layer-set"}, 'lacks "format": "kvlens.id-profile"'),
        ({"states": 3}, "not a valid ID profile: states"),
        ({"estimates": {}}, "not a valid ID profile: estimates"),
        ({"surprise": 1}, "not a valid ID profile: surprise"),
        ({"scales": [{"layer": 0}]}, "not a valid ID profile: scales.0.neighbours"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "id.json"
    estimate(trace()).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as refused:
        IDProfile.load(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read the ID profile"):
        IDProfile.load(tmp_path / "none.json")
    for content in (b"{", b"\xff\xfe\x00", b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match="it is not JSON"):
            IDProfile.load(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="lacks"):
        IDProfile.load(tmp_path / "list.json")


def test_estimators_cover_the_same_ascending_layers():
    profile = estimate(trace())
    content = profile.model_dump()
    content["estimates"]["mle"] = content["estimates"]["mle"][:2]
    with pytest.raises(ValueError, match="cover the same layers"):
        IDProfile.model_validate(content)
    content["estimates"] = {"twonn": content["estimates"]["twonn"][::-1]}
    with pytest.raises(ValueError, match="ascend"):
        IDProfile.model_validate(content)
    with pytest.raises(ValueError, match="finite"):
        ScaleProfile(layer=0, neighbours=(2,), values=(np.nan,), stderrs=(1.0,))
