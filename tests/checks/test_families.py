"""Recording on every family of the zoo, and the layers that are selected from it."""

import numpy as np
import pytest
from families import family
from family_cases import (
    KEPT_OUT,
    KEYS_AND_VALUES,
    NOT_RECORDED,
    RECORDED,
    SEES_PADDING,
    STREAMS,
    layers_of,
)

import kvlens
from kvlens.checks.parity import recording_differences
from kvlens.layers.rules import PROFILE_RULES
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.texts import as_texts

pytestmark = [pytest.mark.zoo, pytest.mark.slow]

FEW = ["a", "The cat sat on the mat.", "Two sentences are here. The second one is longer."]
# Different in their last tokens, which is all that a small window sees.
MANY = [f"{word} {number:03}" for word in ("cats", "river", "stone") for number in range(24)]


def test_at_least_thirty_five_families_record():
    assert len(RECORDED) >= 35


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_is_what_raw_transformers_says(name):
    worst = recording_differences(family(name), as_texts(FEW), DEFAULT_DOCUMENT)
    assert "hidden" in worst
    assert max(difference for difference, _ in worst.values()) <= 2e-4, worst


@pytest.mark.parametrize("name", STREAMS)
def test_keys_and_values_are_recorded_beside_several_streams_of_hidden_states(name):
    lm = family(name)
    worst = recording_differences(lm, as_texts(FEW), DEFAULT_DOCUMENT)
    assert set(worst) == set(KEYS_AND_VALUES)
    assert max(difference for difference, _ in worst.values()) <= 2e-4, worst
    trace = kvlens.record(lm, FEW, keep=KEYS_AND_VALUES)
    assert "position_zero" not in trace.tensors, "several streams have no length"
    checked = kvlens.check(lm, FEW)
    assert checked.recording_passed
    assert "not compared: its blocks give several streams" in str(checked)


def test_what_gemma_3n_stores_is_profiled_and_rerouted():
    lm = family("gemma3n_text")
    able = layers_of(lm)
    # Its own words at every place: the first layers see a few tokens, of which they keep the last.
    texts = [f"{number * 7919 % 100000:05}" for number in range(72)]
    profile = kvlens.estimate(kvlens.record(lm, texts, "raw", keep=("k_pre", "v")), "v", draws=0)
    chosen = kvlens.select(profile)
    assert chosen.layers
    assert set(chosen.layers) <= set(able)
    plain = kvlens.Encoder(lm, layers=[]).encode(FEW)
    assert not np.allclose(kvlens.Encoder(lm, layers=chosen).encode(FEW), plain)


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in KEPT_OUT])
def test_layers_are_selected_among_those_that_reroute(name):
    lm = family(name)
    trace = kvlens.record(lm, MANY, "raw", keep=("hidden",))
    profile = kvlens.estimate(trace, draws=0)
    for rule in PROFILE_RULES:
        chosen = kvlens.select(profile, rule=rule)
        assert chosen.layers
        assert set(chosen.layers) <= set(layers_of(lm))
        with kvlens.reroute(lm, chosen):
            pass


@pytest.mark.parametrize("name", sorted(NOT_RECORDED))
def test_what_cannot_be_recorded_is_refused_in_one_line(name):
    with pytest.raises(kvlens.InputError, match=NOT_RECORDED[name]) as refusal:
        kvlens.record(family(name), FEW)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", SEES_PADDING)
def test_a_model_that_sees_padding_is_padded_on_the_right(name):
    with pytest.raises(kvlens.InputError, match="sees padding on the left"):
        kvlens.record(family(name), FEW, padding_side="left")
