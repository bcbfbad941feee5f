"""Neighbours are exact, and copies of points count once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifolds import ball, embed, read
from scipy.spatial.distance import cdist

from kvlens.dimension import pair_distances
from kvlens.dimension.cloud import BLOCK, Cloud
from kvlens.dimension.estimation import estimate_points
from kvlens.dimension.neighbours import nearest_neighbours, neighbours_in
from kvlens.dimension.profile import NoEstimate
from kvlens.dimension.search import candidates
from kvlens.store.errors import InputError


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


@pytest.mark.parametrize("n", [2048, 4100])
def test_neighbours_across_blocks(n):
    """Some points by brute force; of all, and of some alone."""
    points = embed(ball(n, 6, seed=2), 12).astype(np.float32)
    every = nearest_neighbours(points, 64)
    some = np.r_[0, 7, 2047, n - 1]
    alone = neighbours_in(Cloud.of(points), 64, some)
    truth = cdist(points[some], points)
    truth[np.arange(4), some] = np.inf
    order = np.argsort(truth, axis=1, kind="stable")[:, :64]
    for indices, distances in (
        (every.indices[some], every.distances[some]),
        (alone.indices, alone.distances),
    ):
        assert np.array_equal(indices, order)
        assert np.array_equal(distances, np.take_along_axis(truth, order, axis=1))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_neighbours_far_from_one(scale):
    """Where squares of the points are no float32 numbers."""
    assert_neighbours_exact(scale * ball(300, 6, seed=2))


def test_points_far_and_near():
    """A point so far away that squares of the others vanish beside its own."""
    points = ball(300, 6, seed=2)
    points[7] += 1e25
    assert_neighbours_exact(points)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6), st.sampled_from([np.float32, np.float64]))
def test_bounds_are_bounds(seed, offset, dtype):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((90, 1500)) * 10 ** rng.uniform(-2, 2, (90, 1))
    points[: seed % 90, 3] += 10**offset
    found = candidates(Cloud.of(points.astype(np.float32)), 89, dtype)
    exact = cdist(*[points.astype(np.float32)] * 2) ** 2
    exact = np.take_along_axis(exact, found.indices, axis=1)
    assert (found.low <= exact).all()
    assert (exact <= found.high).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_distances_are_the_same_to_the_bit(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((300, 70)) * 10 ** rng.uniform(-3, 3, 70)).astype(dtype)
    cloud = Cloud.of(points).part(np.arange(100, 300))
    first, second = rng.integers(0, 200, (2, 3000))
    truth = cdist(points[100:], points[100:])[first, second]
    assert np.array_equal(pair_distances.pair_distances(cloud, first, second), truth)
    monkeypatch.setattr(pair_distances, "COMPILED", 0)
    assert np.array_equal(pair_distances.pair_distances(cloud, first, second), truth)


class Shards:
    """Rows that are read from somewhere: no array; it knows the most rows read at once."""

    def __init__(self, rows: np.ndarray):
        self.rows = rows
        self.shape = rows.shape
        self.dtype = rows.dtype
        self.most = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen):
        read = self.rows[chosen]
        self.most = max(self.most, len(read))
        return read


def test_rows_are_read_in_blocks(tmp_path):
    points = embed(ball(2100, 4, seed=0), 8).astype(np.float32)
    points[5] = points[2]
    expected = estimate_points(points)
    shards = Shards(points)
    assert estimate_points(shards) == expected
    assert shards.most <= BLOCK < len(points)
    np.save(tmp_path / "points.npy", points)
    assert estimate_points(np.load(tmp_path / "points.npy", mmap_mode="r")) == expected
    with pytest.raises(InputError, match="NaN or infinity in 1 of 2100"):
        estimate_points(Shards(np.where(np.arange(2100)[:, None] == 2099, np.nan, points)))


def test_an_offset_of_some_points_changes_nothing():
    left = embed(ball(400, 5, seed=1), 50)
    right = embed(ball(400, 5, seed=2), 50)
    near = np.r_[left, right + 10.0]
    far = np.r_[left, right + 1e5]
    assert read(far) == pytest.approx(read(near), rel=1e-6)


def test_one_duplicate_pair():
    import skdim

    points = ball(300, 5, seed=0)
    with_copy = np.r_[points, points[7:8]]
    with pytest.warns(RuntimeWarning):  # the trap
        assert skdim.id.MLE().fit(with_copy, comb="mle").dimension_ == 0
    assert read(with_copy) == pytest.approx(read(points), rel=1e-9)
    estimates, _ = estimate_points(with_copy)
    for estimate in estimates.values():
        assert (estimate.n, estimate.dropped, estimate.warnings) == (300, 1, ())


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
    # 2e-4 of the distance to the 10th neighbour.
    noise *= 5e-5 / np.linalg.norm(noise, axis=1, keepdims=True)
    estimates, _ = estimate_points(np.r_[points, np.repeat(points[:8], copies - 1, axis=0) + noise])
    assert estimates["twonn"].dropped == 8 * (copies - 1)
    # First members are kept.
    assert estimates["twonn"].value == pytest.approx(read(points)["twonn"], rel=1e-5)


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


def test_too_few_distinct_points():
    points = ball(49, 4, seed=0)
    with pytest.raises(InputError, match="49 of 98 points are distinct"):
        estimate_points(np.r_[points, points])
    estimates, scales = estimate_points(ball(50, 4, seed=0))
    assert estimates["mle"].n == 50
    assert scales.neighbours == (2, 4, 8)
