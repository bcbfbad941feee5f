"""Halves: the ID of random halves of the texts, by brute force; how draws are saved."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifolds import ball, embed, trace_of_balls
from scipy.spatial.distance import cdist

from kvlens.dimension.copies import distinct_points
from kvlens.dimension.draws import Draws
from kvlens.dimension.estimation import estimate, estimate_points
from kvlens.dimension.halves import SMALLEST_HALF, Halves, distances_inside, ids_of_half
from kvlens.dimension.profile import IDProfile
from kvlens.store.errors import InputError


def test_a_draw_is_what_its_texts_alone_give():
    """`estimate_points` on the half, by scikit-dimension and a search of its own."""
    trace = trace_of_balls(n=240)
    profile = estimate(trace, draws=4, seed=3)
    halves = Halves(240, draws=4, seed=3).inside
    assert (profile.draws.n, profile.draws.seed) == (120, 3)
    for name in ("twonn", "mle"):
        drawn = profile.drawn_values(name)
        assert drawn.shape == (4, 3)
        for ids, half in zip(drawn, halves, strict=True):
            assert half.sum() == 120
            alone = [estimate_points(trace.states(layer)[half])[0][name] for layer in range(3)]
            np.testing.assert_allclose(ids, [each.value for each in alone], atol=0.0006)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_distances_inside_are_those_of_a_search(seed, k):
    points = embed(ball(150, 4, seed), 20)
    distinct = distinct_points(points, 0)
    # A cluster, so that many of its points have few of their 64 neighbours inside.
    centre = np.linalg.norm(points - points[0], axis=1)
    for half in (centre < np.median(centre), centre > np.median(centre)):
        brute = np.sort(cdist(points[half], points[half]), axis=1)[:, 1 : k + 1]
        np.testing.assert_allclose(distances_inside(distinct, half, k), brute, rtol=1e-9)


def test_few_of_the_stored_neighbours_inside():
    """Every point of the half has all of its 64 neighbours outside."""
    near = ball(100, 3, seed=0)
    far = 1e4 * ball(30, 3, seed=1)
    points = np.r_[near, far]
    distinct = distinct_points(points, 0)
    half = np.arange(130) >= 100
    assert not half[distinct.neighbours.indices[half][:, :20]].all()
    brute = np.sort(cdist(far, far), axis=1)[:, 1:21]
    np.testing.assert_allclose(distances_inside(distinct, half, 20), brute, rtol=1e-9)


def test_seeds():
    trace = trace_of_balls()
    first = estimate(trace, draws=5)
    assert estimate(trace, draws=5) == first
    assert estimate(trace, draws=5, seed=1).draws != first.draws
    assert estimate(trace, draws=0).draws is None
    assert estimate(trace).estimates == first.estimates
    # Further draws leave those before as they are, whatever the layers and estimators.
    assert estimate(trace, draws=9).draws.values["mle"][:5] == first.draws.values["mle"]
    alone = estimate(trace, estimators=("mle",), draws=5)
    assert alone.draws.values == {"mle": first.draws.values["mle"]}


def test_halves_are_of_texts():
    """Tokens of one text are in the same halves; copies of points are dropped from all of them."""
    halves = Halves(n_texts=60, draws=8, seed=0)
    text_of_point = np.repeat(np.arange(60), 3)
    points = embed(ball(180, 3, seed=0), 12)
    points[7] = points[3]
    distinct = distinct_points(points, 0)
    halves.measure(distinct, text_of_point, ("twonn",))
    for (drawn,), inside in zip(halves.draws().values["twonn"], halves.inside, strict=True):
        of_half = inside[text_of_point]
        of_half[7] = False
        (truth,) = ids_of_half(distinct, of_half[distinct.rows], ("twonn",))
        assert drawn == pytest.approx(truth, abs=0.0006)


def test_a_half_of_too_few_points_is_none():
    distinct = distinct_points(embed(ball(100, 3, seed=0), 12), 0)
    few = np.arange(100) < SMALLEST_HALF - 1
    assert np.isnan(ids_of_half(distinct, few, ("twonn", "mle"))).all()
    assert np.isfinite(ids_of_half(distinct, np.arange(100) < SMALLEST_HALF, ("mle",))).all()


def test_draws_without_an_id_are_left_out():
    """Where 50 of 90 texts are distinct, some halves have too few points, and others enough."""
    points = embed(ball(50, 3, seed=0), 12)
    distinct = distinct_points(np.r_[points, np.repeat(points[:1], 40, axis=0)], 0)
    assert distinct.rows.tolist() == list(range(50))
    halves = Halves(n_texts=90, draws=20, seed=0)
    halves.measure(distinct, np.arange(90), ("mle",))
    enough = halves.inside[:, :50].sum(axis=1) >= SMALLEST_HALF
    assert 0 < enough.sum() < 20
    assert len(halves.draws().values["mle"]) == enough.sum()
    none = Halves(n_texts=90, draws=3, seed=0)
    none.inside[:, :26] = False
    none.measure(distinct, np.arange(90), ("mle",))
    assert none.draws() is None
    assert estimate(trace_of_balls(n=50)).draws.n == SMALLEST_HALF


def test_a_draw_is_a_line_of_the_file(tmp_path):
    profile = estimate(trace_of_balls(), draws=3)
    content = json.loads(profile.save(tmp_path / "id.json").read_text(encoding="utf-8"))
    lines = content["draws"]["values"]["twonn"]
    assert [len(line.split()) for line in lines] == [3, 3, 3]
    assert float(lines[1].split()[2]) == profile.drawn_values("twonn")[1, 2]
    assert IDProfile.load(tmp_path / "id.json") == profile


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"values": {"twonn": ["1 2 3"]}}, "have the same estimators"),
        ({"values": {"twonn": ["1 2 3"], "mle": ["1 2 3", "1 2 3"]}}, "have the same draws"),
        ({"values": {"twonn": ["1 2"], "mle": ["1 2"]}}, "one ID a layer"),
        ({"values": {"twonn": ["1 2 x"], "mle": ["1 2 3"]}}, "draws.values.twonn.0"),
        ({"values": {"twonn": ["1 nan 3"], "mle": ["1 2 3"]}}, "draws.values.twonn.0.1"),
        ({"values": {"twonn": ["1 0 3"], "mle": ["1 2 3"]}}, "draws.values.twonn.0.1"),
        ({"values": {"twonn": [], "mle": []}}, "draws.values.twonn"),
        ({"n": 0}, "draws.n"),
        ({"seed": -1}, "draws.seed"),
    ],
)
def test_draws_that_do_not_fit_are_refused(change, problem, tmp_path):
    content = json.loads(estimate(trace_of_balls(), draws=1).model_dump_json())
    content["draws"] |= change
    path = tmp_path / "id.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        IDProfile.load(path)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("addition", ["sink", "draws"])
def test_version_1_has_neither_sink_nor_draws(addition, tmp_path):
    profile = estimate(trace_of_balls(), draws=1)
    additions = {
        "sink": {"block": 1, "before": 1.0, "after": 20.0, "n": 3, "share": 1.0},
        "draws": json.loads(profile.draws.model_dump_json()),
    }
    content = json.loads(profile.model_dump_json())
    content.pop("draws")
    path = tmp_path / "id.json"
    path.write_text(json.dumps({**content, "version": 1}), encoding="utf-8")
    old = IDProfile.load(path)
    assert (old.version, old.sink, old.draws) == (1, None, None)
    assert old.drawn_values("mle").shape == (0, 3)
    path.write_text(json.dumps({**content, "version": 1, addition: additions[addition]}))
    with pytest.raises(InputError, match="version 1 has neither sink nor draws"):
        IDProfile.load(path)


def test_a_sink_outside_the_model_is_refused():
    content = estimate(trace_of_balls(), draws=1).model_dump()
    content["sink"] = {"block": 3, "before": 1.0, "after": 20.0, "n": 3, "share": 1.0}
    with pytest.raises(ValueError, match="layer 3 is outside the model"):
        IDProfile.model_validate(content)


def test_draws_are_numbers_in_python():
    draws = Draws(n=30, seed=0, values={"mle": ((1.5, 2.25),)})
    assert Draws.model_validate_json(draws.model_dump_json()) == draws
