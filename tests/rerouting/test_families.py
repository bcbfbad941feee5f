"""Re-routing on every family of the zoo, held against the oracle in float64."""

import itertools

import pytest
import torch
from families import NAMES, build, family
from family_cases import (
    BIASES,
    KEPT_OUT,
    NO_ORACLE,
    READ,
    REROUTED,
    TOLERANCE,
    UNREAD,
    difference,
    inputs_of,
    layers_of,
    rows,
    states_of,
    truth_of,
)
from family_oracle import decoder_of, oracle

from kvlens import InputError, reroute

pytestmark = [pytest.mark.zoo, pytest.mark.slow]


def is_one_line(refusal):
    return "\n" not in str(refusal.value) and len(str(refusal.value)) < 300


def test_at_least_forty_families_reroute():
    assert len(REROUTED) >= 40
    assert set(READ) | set(UNREAD) == set(NAMES)
    assert set(REROUTED) | set(KEPT_OUT) == set(READ)
    assert not set(REROUTED) & set(NO_ORACLE)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_ORACLE])
def test_the_oracle_without_a_prefix_is_the_plain_model(name):
    decoder = decoder_of(build(name))
    for row in rows():
        truth = oracle(name).states(row, {})
        with torch.no_grad():
            plain = decoder(row[None], use_cache=False).last_hidden_state[0]
        assert difference([plain], [truth]) < TOLERANCE


@pytest.mark.parametrize("position", ["keep", "origin", "none"])
@pytest.mark.parametrize("name", REROUTED)
def test_all_layers_equal_brute_force(name, position):
    lm = family(name)
    layers = layers_of(lm)
    assert layers
    assert set(layers) <= oracle(name).layers
    plain = truth_of(name, (), 0.0)
    for bias in BIASES if position == "keep" else BIASES[:1]:
        truth = truth_of(name, layers, bias, position)
        assert difference(plain, truth) > 1e-2, "it has to change something"
        for (side, masked), texts in itertools.product(inputs_of(name), (rows(), rows()[:1])):
            with reroute(lm, layers, bias, position) as rerouting:
                states = states_of(lm, texts, side, rerouting, masked)
            assert difference(states, truth[: len(texts)]) < TOLERANCE


@pytest.mark.parametrize("name", REROUTED)
def test_one_layer_alone_equals_brute_force(name):
    lm = family(name)
    layer = layers_of(lm)[-1]
    with reroute(lm, [layer]):
        states = states_of(lm, rows()[:1], "right")
    assert difference(states, truth_of(name, [layer], 1.0)[:1]) < TOLERANCE


@pytest.mark.parametrize("name", sorted(UNREAD))
def test_what_cannot_be_read_is_refused_in_one_line(name):
    with pytest.raises(InputError, match=UNREAD[name]) as refusal:
        family(name)
    assert is_one_line(refusal)


@pytest.mark.parametrize("position", ["keep", "origin", "none"])
@pytest.mark.parametrize("name", sorted(KEPT_OUT))
def test_what_is_not_exact_is_not_rerouted(name, position):
    lm = family(name)
    layers = layers_of(lm) or [0]
    with (
        pytest.raises(InputError, match=KEPT_OUT[name]) as refusal,
        reroute(lm, layers, 1.0, position),
    ):
        pass
    assert is_one_line(refusal)
