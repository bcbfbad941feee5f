"""Effects of a route's parts, against encoders that are built without them one by one."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from zoo import tiny

import kvlens
from kvlens import Effects, Encoder, InputError
from kvlens.texts.pairs import Pairs

LAYERS = (1, 2)
BIAS = (1.0, 2.0)
SENTENCES = [f"sentence {number} of {'many ' * (number % 5)}words" for number in range(24)]


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def pairs():
    human = np.array([number % 7 for number in range(12)], dtype=float)
    return Pairs(tuple(SENTENCES[:12]), tuple(SENTENCES[12:]), human)


@pytest.fixture(scope="module")
def others(lm):
    return kvlens.calibration(kvlens.record(lm, ["a", "b c", "d e f"], keep=("k_pre", "v")))


@pytest.fixture(scope="module")
def found(lm, pairs, others):
    route = kvlens.Route.of(lm.info, LAYERS, BIAS)
    return kvlens.effects(lm, pairs, route, calibration=others)


def vectors(lm, layers=LAYERS, bias=BIAS, **control):
    return Encoder(lm, layers=layers, bias=bias, **control).encode(SENTENCES).astype(float)


def without(lm, effect, others):
    """The embeddings of an encoder that lacks the part."""
    heads = range(lm.info.n_heads)
    if effect.kind == "route":
        return vectors(lm, (), 1.0)
    if effect.kind == "layer":
        (left,) = set(LAYERS) - {effect.layer}
        return vectors(lm, (left,), BIAS[LAYERS.index(left)])
    if effect.kind == "head":
        return vectors(lm, heads={effect.layer: [head for head in heads if head != effect.head]})
    if effect.kind == "queries":
        left = {"position 0": "shielded", "the text": "prompt", "the prompt": "text"}
        return vectors(lm, queries=left[effect.name])
    if effect.kind in ("key", "content"):
        carried = ("key",) if effect.kind == "key" else ("key", "value")
        return vectors(lm, **dict.fromkeys(carried, effect.name), calibration=others)
    value = effect.name if effect.layer is None else {effect.layer: effect.name}
    return vectors(lm, value=value, calibration=others)


def test_every_part_is_left_out_once(lm, found):
    kinds = [effect.kind for effect in found.effects]
    expected = {"route": 1, "layer": 2, "head": 2 * lm.info.n_heads, "queries": 3, "value": 9}
    expected |= {"key": 2, "content": 2}
    assert {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} == expected
    assert len({effect.words for effect in found.effects}) == len(found.effects)


def test_each_effect_is_the_difference_of_two_encoders(lm, found, pairs, others):
    whole = vectors(lm)
    for effect in found.effects:
        left = without(lm, effect, others)
        moved = 1 - (whole * left).sum(1)
        assert effect.moved == pytest.approx(moved.mean(), abs=2e-6), effect.words
        assert effect.spread == pytest.approx(moved.std(ddof=1), abs=2e-6), effect.words
        score = 100 * (rho(whole, pairs) - rho(left, pairs))
        assert effect.score.value == pytest.approx(score, abs=1e-6), effect.words
        assert effect.score.low <= effect.score.value <= effect.score.high
    assert found.score.value == pytest.approx(100 * rho(whole, pairs))
    assert max(effect.moved for effect in found.effects) > 1e-2


def rho(embedded, pairs):
    return spearmanr((embedded[:12] * embedded[12:]).sum(1), pairs.scores).statistic


def test_texts_without_scores_move_as_well(lm, found):
    alone = kvlens.effects(lm, SENTENCES, kvlens.Route.of(lm.info, LAYERS, BIAS))
    assert alone.n_pairs == 0
    assert all(effect.score is None for effect in alone.effects)
    for effect, before in zip(alone.of("head"), found.of("head"), strict=True):
        assert effect.moved == pytest.approx(before.moved, abs=1e-7)
    assert {effect.name for effect in alone.of("value")} == {"zero"}


def test_it_loads_as_it_was_saved_and_prints_a_line_a_part(found, tmp_path):
    assert kvlens.open(found.save(tmp_path / "effects.json")) == found
    assert Effects.load(tmp_path / "effects.json") == found
    lines = str(found).splitlines()
    assert len(lines) == 2 + len(found.effects)
    assert all(len(line) < 120 for line in lines)


def test_a_route_without_layers_is_refused(lm):
    with pytest.raises(InputError, match="`layers` holds none"):
        kvlens.effects(lm, SENTENCES, [])
