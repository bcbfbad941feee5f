"""Rules: what each takes of known profiles, and by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_cases import GEMMA, RISING, SMOLLM2, U, make_profile

from kvlens.layers.choice import Choice
from kvlens.layers.rules import PROFILE_RULES, RULES
from kvlens.layers.selection import select
from kvlens.store.errors import InputError


def test_u_takes_the_minimum_and_the_window_after_it():
    chosen = select(make_profile(U), z=2.0)
    assert chosen.layers == (11, 12, 13, 14)
    assert (chosen.shape.name, chosen.branch) == ("U", "U: window from the minimum")
    assert "minimum at layer 11 (ID 9.5, standard error 0.4)" in chosen.reason
    assert "floor(0.1 x 30) = 3" in chosen.reason
    assert chosen.warnings == (
        "the ID at layer 11 is not clearly below that at layers 5-10, 12-17",
    )
    assert select(make_profile(U, 1e-3)).warnings == ()


def test_u_is_clipped_at_the_last_layer_and_says_so():
    chosen = select(make_profile(9 + np.abs(np.arange(30) - 28.0), 0.1), window=0.2)
    assert chosen.layers == (28, 29)
    assert any("clipped at the last layer, 29" in text for text in chosen.warnings)
    assert any("includes the model's last layer" in text for text in chosen.warnings)


def test_several_minima_take_the_lowest_past_the_first_fifth():
    # 18 layers: 1 + floor(1.8), from layer ceil(3.6) on.
    chosen = select(make_profile(GEMMA, 0.5), z=2.0)
    assert (chosen.layers, chosen.branch) == ((12, 15), "lowest past skip_early")
    assert "several minima, minima at layers 1, 12" in chosen.reason
    lowest = "the profile is lowest at layer 1 (ID 10.2, standard error 0.5), which is not chosen"
    assert lowest in chosen.warnings
    rivals = "not clearly below that at layers 4-8, 13-14, 16-17"
    assert any(rivals in text for text in chosen.warnings)
    assert not any("does not cover" in text for text in chosen.warnings)
    assert select(make_profile(GEMMA, 0.5), skip_early=0).layers == (1, 2)


@pytest.mark.parametrize(
    ("values", "name", "layers", "edge", "others"),
    [
        (
            SMOLLM2,
            "peak",
            (6, 27, 28, 29),
            "layer 0",
            ["last layer", "layer 6 is where skip_early ends"],
        ),
        (RISING, "rising", (6, 7, 8, 9), "layer 0", ["layer 6 is where skip_early ends"]),
        (RISING[::-1], "falling", (26, 27, 28, 29), "layer 29", ["last layer"]),
        ([12.0] * 30, "flat", (6, 7, 8, 9), "layer 0", ["not clearly below"]),
    ],
)
def test_shapes_that_the_paper_does_not_cover_warn(values, name, layers, edge, others):
    chosen = select(make_profile(values, 0.4))
    assert (chosen.layers, chosen.shape.name) == (layers, name)
    warnings = " | ".join(chosen.warnings)
    assert f"does not cover this shape ({name})" in warnings
    assert f"the profile is lowest at {edge} " in warnings
    assert ", an edge" in warnings
    assert all(other in warnings for other in others)


@pytest.mark.slow
@given(
    st.lists(st.integers(5, 25), min_size=4, max_size=40, unique=False),
    st.floats(0, 0.5),
    st.floats(0, 0.9),
)
def test_ranking_rules_match_brute_force(values, window, skip):
    profile = make_profile(values)
    n = len(values)
    count = 1 + int(np.floor(np.round(window * n, 9)))
    late = [i for i in range(n) if i >= np.round(skip * n, 9)]
    ranked = sorted(late, key=lambda i: (values[i], i))
    if not late:
        with pytest.raises(InputError):
            select(profile, "lowest-k", window, skip)
        return
    assert select(profile, "lowest-k", window, skip).layers == tuple(sorted(ranked[:count]))
    around = select(profile, "window-around-minimum", window, skip).layers
    assert around == tuple(range(around[0], around[0] + count))
    assert ranked[0] in around
    assert around[-1] < n
    before = ranked[0] - around[0]
    after = around[-1] - ranked[0]
    assert 0 <= after - before <= 1 or around[0] == 0 or around[-1] == n - 1
    assert all(0 <= i < n for i in select(profile, "paper", window, skip).layers)


@pytest.mark.parametrize("rule", PROFILE_RULES)
@given(st.lists(st.integers(5, 25), min_size=4, max_size=40), st.floats(0, 0.5), st.integers(1, 3))
def test_every_rule_chooses_layers_of_the_model(rule, values, window, stride):
    """Whatever the profile, and where only every so many layers were profiled."""
    n = stride * len(values)
    profile = make_profile(values, layers=range(0, n, stride), n_layers=n)
    chosen = select(profile, rule, window)
    assert 1 <= len(chosen.layers) <= 1 + np.floor(np.round(window * n, 9))
    assert list(chosen.layers) == sorted(set(chosen.layers))
    assert set(chosen.layers) <= set(range(n))
    assert chosen.branch
    assert chosen.reason.endswith(".")
    assert select(profile, rule, window) == chosen


def test_minimum_after_the_first_peak_and_the_peak_itself():
    # Up to layer 3, down to 6, up to 8, down to the lowest, 11.
    values = [9, 10, 11, 14, 12, 11, 8, 9, 16, 12, 9, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    profile = make_profile(values, 0.1)
    chosen = select(profile, "minimum-after-peak")
    assert chosen.layers == (5, 6, 7)
    assert "the first minimum after the first peak, layer 3" in chosen.reason
    assert select(profile, "peak").layers == (7, 8, 9)
    # With errors so large that neither maximum but the largest stands out, the later one counts.
    assert select(make_profile(values, 2.5), "minimum-after-peak", z=2.0).layers == (10, 11, 12)


def test_without_a_layer_after_the_peak_the_rule_guesses_and_says_so():
    chosen = select(make_profile(RISING, 1e-3), "minimum-after-peak")
    assert chosen.layers == (26, 27, 28, 29)
    assert "no layer lies after the first peak: the choice is a guess" in chosen.warnings


@pytest.mark.parametrize(
    ("n", "around", "last"),
    [(30, (19, 20, 21, 22), (26, 27, 28, 29)), (18, (12, 13), (16, 17)), (9, (5,), (8,))],
)
def test_depth_rules_look_at_no_profile(n, around, last):
    for values in (np.arange(n) + 5.0, 40.0 - np.arange(n)):
        profile = make_profile(values)
        assert select(profile, "fixed-depth").layers == around
        assert select(profile, "last-k").layers == last


def test_depth_rules_count_the_layers_that_can_be_rerouted():
    profile = make_profile(U, able=tuple(range(3, 30, 4)))
    assert select(profile, "fixed-depth").layers == (15, 19, 23, 27)
    narrow = select(make_profile(U, able=(3, 9)), "last-k")
    assert narrow.layers == (3, 9)
    assert "only 2 layers can be re-routed, too few for the window" in narrow.warnings


def test_fractions_of_the_depth_are_not_bitten_by_binary():
    profile = make_profile(np.arange(100) % 100 + 1.0)
    assert 0.29 * 100 < 29
    assert 0.07 * 100 > 7
    chosen = select(profile, "lowest-k", window=0.29, skip_early=0.07)
    assert chosen.layers == tuple(range(7, 37))


def test_explicit_and_what_it_refuses():
    profile = make_profile(U)
    assert select(profile, "explicit", layers=[3, 29]).layers == (3, 29)
    assert select(profile, "explicit", layers=[3, 29]).warnings == ()
    assert "no layers of 30" in str(select(profile, "explicit", layers=[]))
    for layers, problem in (
        (None, "needs `layers`"),
        ([30], "outside the model, whose layers are 0 to 29"),
        ([-1], "`layers`: Input should be greater than or equal to 0"),
        ([4, 3], "ascend without repetition"),
        ([3, 3], "ascend without repetition"),
        ([1.5], "`layers` is .*, not a list of block indices"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            select(profile, "explicit", layers=layers)
        assert "\n" not in str(caught.value)


def test_a_rule_is_a_function_and_an_entry(monkeypatch):
    """It sees the evidence, and its answer is checked, put in order and recorded."""

    def highest(evidence):
        layer = max(evidence.layers, key=lambda layer: evidence.value[layer])
        return Choice((layer, 3), "highest", f"High up: {evidence.describe(layer)}.", ("mine",))

    monkeypatch.setitem(RULES, "highest", highest)
    chosen = select(make_profile(U), "highest")
    assert (chosen.layers, chosen.rule, chosen.branch) == ((3, 29), "highest", "highest")
    assert chosen.reason == "High up: layer 29 (ID 19.2, standard error 0.4)."
    assert chosen.warnings[0] == "mine"
    with pytest.raises(InputError, match="explicit, highest"):
        select(make_profile(U), "lowest")
