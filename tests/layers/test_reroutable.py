"""Layers that can be re-routed: rules choose among them alone, and others are refused by name."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from profile_cases import U, make_model, make_profile

from kvlens.layers.layer_set import LayerSet
from kvlens.layers.route import Route
from kvlens.layers.rules import PROFILE_RULES
from kvlens.layers.selection import select
from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError

REFUSED = (
    "layer 2 of test-model cannot be re-routed: it has no keys and values of its own; "
    "those that can: layers 3, 7"
)


@st.composite
def hybrids(draw):
    """A profile of some layers of a model of which some can be re-routed, and these."""
    n = draw(st.integers(3, 30))
    layers = st.lists(st.integers(0, n - 1), min_size=1, unique=True).map(sorted)
    able = tuple(draw(layers))
    profiled = draw(layers)
    values = draw(st.lists(st.integers(5, 25), min_size=len(profiled), max_size=len(profiled)))
    error = draw(st.sampled_from([0.01, 1.0]))
    return make_profile(values, error, layers=profiled, n_layers=n, able=able), able


@pytest.mark.parametrize("rule", PROFILE_RULES)
@given(hybrids(), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_rule_never_picks_a_layer_that_cannot_be_rerouted(rule, hybrid, window, skip):
    profile, able = hybrid
    try:
        chosen = select(profile, rule, window, skip)
    except InputError as error:
        if not str(error).startswith("no profiled layer"):
            raise
        return
    assert chosen.layers
    assert set(chosen.layers) <= set(able)


@pytest.mark.parametrize(
    ("able", "those"), [((), "no layers"), ((0, 1), "layers 0-1"), ((1, 20), None)]
)
def test_a_profile_without_a_layer_that_can_be_rerouted_says_which_can(able, those):
    profile = make_profile([12, 11, 9], layers=[17, 18, 19], n_layers=30, able=able)
    problem = f"no profiled layer can be re-routed; those that can: {those}$"
    with pytest.raises(InputError, match=problem if those else "lower `skip_early`"):
        select(profile)


def minimum_after_peak(values):
    """Walk up to the first maximum, then down to the next minimum."""
    layer = 0
    while layer + 1 < len(values) and values[layer + 1] > values[layer]:
        layer += 1
    while layer + 1 < len(values) and values[layer + 1] < values[layer]:
        layer += 1
    return layer


def plain_choice(rule, values, further, first):
    """The choice in a model all of whose layers can be re-routed, after the rule's definition."""
    n = len(values)
    ranked = sorted(range(first, n), key=lambda layer: (values[layer], layer))
    middle = {
        "window-around-minimum": ranked[0],
        "minimum-after-peak": minimum_after_peak(values),
        "peak": int(np.argmax(values)),
    }
    if rule in middle:
        start = max(0, min(middle[rule] - further // 2, n - 1 - further))
        return tuple(range(start, start + further + 1))
    return tuple(sorted(ranked[: 1 + further]))


@pytest.mark.parametrize("rule", PROFILE_RULES)
@given(
    st.lists(st.integers(5, 25), min_size=3, max_size=30, unique=True),
    st.floats(0, 0.99),
    st.integers(1, 5),
)
def test_hybrids_are_chosen_from_as_if_they_had_no_other_layers(rule, values, window, gap):
    """Every `gap`-th layer can be re-routed and was profiled: the choice is that of a plain model.

    Windows are shares of the whole model's depth, so that the plain one's is larger.
    """
    n = len(values) * gap
    able = tuple(range(0, n, gap))
    hybrid = make_profile(values, 0.01, layers=able, n_layers=n, able=able)
    chosen = select(hybrid, rule, window, skip_early=0)
    further = int(round(window * n, 9) // 1)
    if chosen.shape.name == "U" and rule == "paper":
        start = chosen.shape.minima[0] // gap
        expected = tuple(range(start, min(start + further, len(values) - 1) + 1))
    else:
        expected = plain_choice(rule, values, min(further, len(values) - 1), 0)
    assert chosen.layers == tuple(gap * layer for layer in expected)


@pytest.mark.parametrize("rule", PROFILE_RULES)
@given(st.lists(st.integers(5, 25), min_size=3, max_size=30), st.floats(0, 0.99), st.floats(0, 0.9))
def test_naming_every_layer_as_one_that_can_changes_nothing(rule, values, window, skip):
    n = len(values)
    assume(any(layer >= skip * n for layer in range(n)))
    plain = make_profile(values)
    named = make_profile(values, able=tuple(range(n)))
    without = select(plain, rule, window, skip)
    with_names = select(named, rule, window, skip)
    same = ("layers", "branch", "reason", "warnings")
    assert [getattr(without, f) for f in same] == [getattr(with_names, f) for f in same]


def test_a_u_whose_minimum_cannot_be_rerouted_starts_at_the_next_that_can():
    able = tuple(range(3, 30, 4))
    chosen = select(make_profile(U, 1e-3, able=able), window=0.1)
    assert chosen.shape.minima == (11,)
    assert chosen.layers == (11, 15, 19, 23)
    assert chosen.reason.endswith("starts there and spans floor(0.1 x 30) = 3 more that can be "
                                  "re-routed.")  # fmt: skip
    assert chosen.warnings == ()
    able = (2, 10, 14, 22)
    chosen = select(make_profile(U, 1e-3, able=able), window=0.1)
    assert chosen.layers == (14, 22)
    assert "minimum at layer 11 (ID 9.5" in chosen.reason
    assert "starts at layer 14" in chosen.reason
    assert chosen.warnings[:2] == (
        "the minimum, layer 11, cannot be re-routed: the window starts at layer 14",
        "the window is clipped at the last layer that can be re-routed, 22: 1 further layers",
    )
    above_none = select(make_profile(U, 1e-3, able=(2, 8)), window=0.1)
    assert above_none.layers == (8,)
    assert "the window starts at layer 8" in above_none.warnings[0]


@pytest.mark.parametrize("rule", ["lowest-k", "window-around-minimum"])
def test_where_only_early_layers_can_be_rerouted_none_is_left_out(rule):
    chosen = select(make_profile(U, able=(0, 1)), rule, window=0)
    assert chosen.layers == (1,)
    assert "lowest at any depth" in chosen.reason or "ID at any depth" in chosen.reason
    assert "only early layers can be re-routed: `skip_early` leaves out none" in chosen.warnings
    with pytest.raises(InputError, match="no profiled layer that can be re-routed lies past"):
        select(make_profile(U[:9], n_layers=30, able=(0, 1, 20)), rule, skip_early=0.5)


def test_what_cannot_be_rerouted_is_refused_by_name():
    profile = make_profile([9.0, 8.0, 7.0, 8.0, 9.0, 9.0, 9.0, 9.0], able=(3, 7))
    assert select(profile, "explicit", layers=[3, 7]).layers == (3, 7)
    assert select(profile, "explicit", layers=[]).layers == ()
    assert Route.of(profile.model, ()).layers == ()
    with pytest.raises(InputError) as caught:
        select(profile, "explicit", layers=[2, 3])
    assert str(caught.value) == REFUSED
    with pytest.raises(InputError) as caught:
        Route.of(profile.model, [3, 2])
    assert str(caught.value) == REFUSED
    shared = profile.model.model_copy(update={"key_layers": (2, 3, 7)})
    with pytest.raises(InputError, match="others read its keys and values"):
        Route.of(shared, [2])


def test_a_layer_set_of_other_layers_does_not_load(tmp_path):
    file = tmp_path / "layers.json"
    select(make_profile(U, able=(3, 7)), "explicit", layers=[3, 7]).save(file)
    assert LayerSet.load(file).layers == (3, 7)
    content = json.loads(file.read_text())
    content["layers"] = [3, 6]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot be re-routed"):
        LayerSet.load(file)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"key_layers": (1, 9)}, "outside the model"),
        ({"key_layers": (3, 1)}, "ascend"),
        ({"key_layers": (1, 3), "reroutable": (2,)}, "without keys"),
    ],
)
def test_layers_of_a_model_have_to_be_its_own(fields, problem):
    with pytest.raises(ValueError, match=problem):
        ModelInfo(**{**make_model(8).model_dump(), **fields})
    assert make_model(8).layers_to_reroute() == tuple(range(8))
