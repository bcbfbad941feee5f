"""Stability: in which share of the draws a rule takes each layer; what is warned of."""

import numpy as np
import pytest
from manifolds import ball, embed, trace_of_balls
from profile_cases import RISING, SMOLLM2, U, make_profile, noisy
from test_old_files import DATA

from kvlens.dimension.estimation import estimate
from kvlens.dimension.profile import IDProfile
from kvlens.dimension.sink import Sink
from kvlens.layers.cautions import sink_cautions
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.rules import PROFILE_RULES
from kvlens.layers.selection import select
from kvlens.layers.stability import Stability

FLAT = np.full(20, 12.0)
DEEP = np.where(np.arange(20) == 11, 4.0, 12.0)


@pytest.mark.parametrize("rule", PROFILE_RULES)
def test_a_share_is_a_count_of_choices(rule):
    """By a selection from each draw, as if it was a profile."""
    drawn = noisy(SMOLLM2, stderr=1.0, draws=12)
    profile = make_profile(SMOLLM2, drawn=drawn)
    chosen = [select(make_profile(values.round(3)), rule).layers for values in drawn]
    stability = select(profile, rule).stability
    assert (stability.draws, stability.n) == (12, 500)
    for layer in range(30):
        assert stability.share(layer) == sum(layer in layers for layers in chosen) / 12


@pytest.mark.parametrize("rule", PROFILE_RULES)
def test_a_constant_profile_has_no_certain_layer(rule):
    constant = select(make_profile(FLAT, drawn=noisy(FLAT)), rule)
    if rule in ("paper", "lowest-k"):  # windows overlap
        assert max(constant.stability.taken.values()) < 0.5
        assert any(text.startswith("not stable: ") for text in constant.warnings)
    assert max(constant.stability.taken.values()) < 1


@pytest.mark.parametrize("rule", [rule for rule in PROFILE_RULES if rule != "peak"])
def test_one_deep_minimum_is_certain(rule):
    deep = select(make_profile(DEEP, drawn=noisy(DEEP)), rule)
    assert deep.stability.share(11) == 1
    certain = select(make_profile(DEEP, drawn=noisy(DEEP)), rule, window=0)
    assert certain.stability.taken == {11: 1.0}
    assert not any("not stable" in text for text in certain.warnings)
    assert "layer 11 in 100 % of 50 draws of 500 texts" in str(certain)


def test_measured_points_of_one_dimension_have_no_certain_layer():
    trace = trace_of_balls(n=120, n_layers=9)
    same = np.stack([embed(ball(120, 5, seed), 12) for seed in range(9)], axis=1)
    trace.tensors["hidden"] = trace.hidden.new_tensor(same)
    chosen = select(estimate(trace, draws=30), "lowest-k", window=0)
    assert max(chosen.stability.taken.values()) < 1
    same[:, 7] = embed(ball(120, 1, 7), 12)
    trace.tensors["hidden"] = trace.hidden.new_tensor(same)
    deep = select(estimate(trace, draws=30), "lowest-k", window=0)
    assert deep.stability.taken == {7: 1.0}


def test_what_is_said():
    stability = Stability.of([(3, 4), (3, 5), (3, 4), (5, 6)], n=60)
    assert stability.taken == {3: 0.75, 4: 0.5, 5: 0.5, 6: 0.25}
    assert stability.of_choice((3, 4)) == (
        "layer 3 in 75 %, layer 4 in 50 % of 4 draws of 60 texts; "
        "of the others most often layer 5 in 50 %"
    )
    assert stability.seldom((3, 4, 6, 9)) == [6, 9]
    assert stability.shares([9, 6, 4, 5]) == "layers 4-5 in 50 %, layer 6 in 25 %, layer 9 in 0 %"


def test_seldom_taken_layers_are_warned_of():
    drawn = np.tile(RISING, (4, 1))
    drawn[:3, 9] = 30.0  # layer 9 is low in one draw of four
    chosen = select(make_profile(RISING, drawn=drawn), "lowest-k")
    assert chosen.layers == (6, 7, 8, 9)
    assert "not stable: layer 9 in 25 % of 4 draws of half the texts" in chosen.warnings


def test_without_draws_it_is_unknown():
    old = IDProfile.load(DATA / "profile.json")
    chosen = select(old)
    assert (chosen.version, chosen.profile.version, chosen.stability) == (2, 1, None)
    for layer_set in (chosen, LayerSet.load(DATA / "layers.json")):
        assert "stable   unknown: the profile has no draws" in str(layer_set)
        assert "unknown: the profile has no draws" in layer_set._repr_html_()


def test_of_layers_of_the_user_there_is_nothing_to_say():
    chosen = select(make_profile(U, drawn=noisy(U)), "explicit", layers=[3])
    assert chosen.stability is None
    assert "stable" not in str(chosen)


def test_what_does_not_fit_a_layer_set():
    content = select(make_profile(U, drawn=noisy(U))).model_dump()
    with pytest.raises(ValueError, match="version 1 has neither stability nor control"):
        LayerSet.model_validate({**content, "version": 1})
    content["stability"] = {"draws": 2, "n": 30, "taken": {30: 1.0}}
    with pytest.raises(ValueError, match="layer 30 is outside the model"):
        LayerSet.model_validate(content)


SINK = Sink(block=11, before=0.9, after=148, n=40, share=1.0)
NOWHERE = SINK.model_copy(update={"block": None, "after": 2.0})


@pytest.mark.parametrize(
    ("sink", "layers", "shielded", "reached"),
    [
        (SINK, (3, 7, 11, 12), False, "layers 3, 7, 11 not above b* (block 11)"),
        (SINK, (11,), False, "layer 11 not above b* (block 11)"),
        (SINK, (12, 13), False, ""),
        (SINK, (), False, ""),
        (SINK, (3, 7), True, ""),
        (NOWHERE, (0,), False, ""),
        (None, (0,), False, ""),
    ],
)
def test_b_star_is_warned_of(sink, layers, shielded, reached):
    warnings = sink_cautions(sink, layers, shielded)
    assert len(warnings) == bool(reached)
    assert all(warning.startswith(reached) for warning in warnings)


def test_b_star_is_among_the_warnings_of_a_selection():
    start = "layers 11-12 not above b* (block 12)"
    warned = select(make_profile(U, sink=12))
    assert any(text.startswith(start) for text in warned.warnings)
    assert not any("b*" in text for text in select(make_profile(U, sink=10)).warnings)
    of_user = select(make_profile(U, sink=12), "explicit", layers=[2, 20])
    assert any(text.startswith("layer 2 not above b*") for text in of_user.warnings)
