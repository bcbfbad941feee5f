"""Choosing: every number of a decision, against encoders that are built one by one."""

import re

import numpy as np
import pytest
from profile_cases import make_profile
from zoo import tiny

import kvlens
from kvlens import Decision, InputError
from kvlens.embedding.spec import MethodSpec
from kvlens.store.progress import silent_bar
from kvlens.studies.coarse_look import coarse
from kvlens.studies.contenders import POOLINGS, Contender, window_routes
from kvlens.studies.court import Court
from kvlens.studies.pair_trial import PairTrial
from kvlens.studies.passage_trial import PassageTrial
from kvlens.texts.limits import Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.wikipedia import calibration_texts

GIVEN = "kv_embedding:layers=1+3:bias=2:pooling=last"


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def passages():
    return calibration_texts(106)


@pytest.fixture(scope="module")
def pairs():
    texts = [f"sentence {i} of {'many ' * (i % 5)}words" for i in range(120)]
    return Pairs(tuple(texts[:60]), tuple(texts[60:]), np.arange(60) % 7.0)


@pytest.fixture(scope="module")
def decided(lm, pairs):
    return kvlens.choose(lm, pairs=pairs, methods=[GIVEN], posts=["zscore"], finalists=8)


def score(lm, trial, method, post):
    encoder = MethodSpec.parse(method).encoder(lm)
    if post:
        encoder.fit_post(post, calibration_texts(300))
    vectors = encoder.encode_document(list(trial.texts))
    return trial.whole(trial.items(vectors)[None])[0]


def test_a_part_whose_scores_are_equal_is_refused(lm):
    texts = [f"sentence {i}" for i in range(80)]
    regular = Pairs(tuple(texts[:40]), tuple(texts[40:]), np.arange(40) % 5.0)
    with pytest.raises(InputError, match=r"8 of the `pairs`.*all have one score"):
        kvlens.choose(lm, pairs=regular)


def test_rows_are_what_encoders_give(lm, pairs, decided):
    _, fine, _ = PairTrial.parts(pairs, (400, 2000, 2000))
    assert decided.n == (12, 24, 24)
    for row in decided.rows:
        expected = score(lm, fine, row.method, row.post)
        assert row.score.value == pytest.approx(expected, abs=0.05), row.words
    values = [row.score.value for row in decided.rows]
    assert values == sorted(values, reverse=True)
    best_plain = next(row for row in decided.rows if not row.layers)
    for row in decided.rows:
        assert row.gain.value == pytest.approx(row.score.value - best_plain.score.value)
        assert row.regret.value == pytest.approx(values[0] - row.score.value)


def test_coarse_scores_of_windows_are_those_of_encoders(lm, pairs, decided):
    coarse, _, _ = PairTrial.parts(pairs, (400, 2000, 2000))
    (row, *_) = decided.of_origin("best window")
    assert row.coarse == pytest.approx(score(lm, coarse, row.method, None), abs=0.05)
    for plain in (each for each in decided.rows if not each.layers and each.post is None):
        assert plain.coarse == pytest.approx(score(lm, coarse, plain.method, None), abs=0.05)
    n_windows = len(lm.info.layers_to_reroute())
    assert {each.n for each in decided.random} == {n_windows}
    kinds = {(each.bias, each.queries, each.pooling) for each in decided.random}
    assert len(kinds) == 2 * 2 * 3 == len(decided.random)


def test_windows_are_looked_at_on_some_items_and_the_best_of_them_on_all(lm, pairs):
    whole = PairTrial(pairs)
    court = Court(lm, Limits(), silent_bar)
    routes = list(window_routes(lm.info, (1,), (3.0,)))
    look = coarse(court, whole, routes)
    first = whole.some(20)
    assert first.n < whole.n
    assert set(first.texts) < set(whole.texts)
    scores = {}
    for route in routes:
        for pooling in POOLINGS:
            way = Contender.of_way(look.best_way._replace(route=route, pooling=pooling), "window")
            scores[way.spec.text] = score(lm, first, way.spec.text, None)
    best = sorted(scores, key=scores.get, reverse=True)
    kept = list(dict.fromkeys(re.sub(":pooling=[a-z]+", "", text) for text in best))
    found = {re.sub(":pooling=[a-z]+", "", each.spec.text) for each, _ in look.windows}
    assert found == set(kept[: len(routes) // 4])
    for contender, value in look.windows:
        assert value == pytest.approx(score(lm, whole, contender.spec.text, None), abs=0.05)
    shown = {(each.bias, each.queries, each.pooling): each for each in look.random}
    for (bias, queries, pooling), each in shown.items():
        of_kind = [
            scores[text]
            for text in scores
            if f":pooling={pooling}:bias={bias:g}" in text
            and ("shielded" in text) == (queries == "shielded")
        ]
        assert each.n == len(of_kind) == 4
        assert each.mean == pytest.approx(np.mean(of_kind), abs=0.05)
        assert each.best == pytest.approx(max(of_kind), abs=0.05)


def test_the_proof_is_of_pairs_that_chose_nothing(lm, pairs, decided):
    *_, last = PairTrial.parts(pairs, (400, 2000, 2000))
    rerouted = decided.rows[decided.proof.rerouted]
    plain = decided.rows[decided.proof.plain]
    assert rerouted.layers
    assert not plain.layers
    scores = [score(lm, last, row.method, row.post) for row in (rerouted, plain)]
    proof = decided.proof
    assert [proof.rerouted_score.value, proof.plain_score.value] == pytest.approx(scores, abs=0.05)
    assert proof.margin.value == pytest.approx(scores[0] - scores[1], abs=0.1)
    assert proof.margin.low <= proof.margin.value <= proof.margin.high


def test_what_is_given_and_what_rules_choose_are_finalists(lm, passages, decided):
    assert decided.of_origin("given")[0].layers == (1, 3)
    profile = kvlens.estimate(kvlens.record(lm, passages, keep=("hidden",)), draws=0)
    found = kvlens.choose(lm, passages, profile=profile, biases=(1.0,), posts=(), finalists=2)
    for rule in ("paper", "peak", "minimum-after-peak", "fixed-depth", "last-k"):
        (row,) = found.of_origin(rule)
        assert row.layers == kvlens.select(profile, rule).layers
        assert "bias=1" in row.method
        assert row.alignment is not None
    _, fine, _ = PassageTrial.parts(passages, (106,) * 3)
    row = found.rows[0]
    assert row.score.value == pytest.approx(score(lm, fine, row.method, None), abs=0.05)
    assert found.kind == "passages"
    assert "Wikipedia" in found.data


def with_margin(decided, low, high):
    margin = decided.proof.margin.model_copy(update={"low": low, "high": high})
    proof = decided.proof.model_copy(update={"margin": margin})
    return decided.model_copy(update={"proof": proof})


@pytest.mark.parametrize(
    ("low", "high", "pays", "words"),
    [
        (0.1, 2.0, True, "re-routing pays"),
        (-0.1, 2.0, False, "re-routing is not shown to pay"),
        (-3.0, -0.1, False, "re-routing costs"),
    ],
)
def test_layers_are_chosen_only_where_that_is_proven(decided, low, high, pays, words):
    decision = with_margin(decided, low, high)
    assert decision.pays == pays
    assert bool(decision.layers) == pays
    assert decision.verdict.startswith(words)
    assert decision.chosen.method in str(decision)
    assert decision.verdict in str(decision)


def test_its_layer_set_embeds_as_its_method_does(lm, passages, decided):
    profile = kvlens.estimate(kvlens.record(lm, passages, keep=("hidden",)), draws=0)
    place, row = next((i, row) for i, row in enumerate(decided.rows) if "shielded" in row.method)
    proof = decided.proof.model_copy(update={"rerouted": place})
    decision = with_margin(decided.model_copy(update={"proof": proof}), 0.1, 2.0)
    layer_set = decision.layer_set(profile)
    assert layer_set.layers == row.layers
    assert "re-routing pays" in layer_set.reason
    texts = ["a cat", "another text"]
    expected = MethodSpec.parse(row.method).encoder(lm).encode(texts)
    assert np.array_equal(kvlens.Encoder(lm, layers=layer_set).encode(texts), expected)
    other = make_profile([12.0, 11.0, 10.0, 9.0])
    with pytest.raises(InputError, match="the profile is of"):
        decision.layer_set(other)
    plain = with_margin(decided, -1.0, 1.0)
    if not plain.chosen.method.startswith("kv_embedding"):
        with pytest.raises(InputError, match="was chosen, which has no layer set"):
            plain.layer_set(profile)


def test_it_is_the_same_again_and_as_a_file(lm, pairs, decided, tmp_path):
    first, again = (
        kvlens.choose(lm, pairs=pairs, biases=(1.0,), posts=(), finalists=2) for _ in range(2)
    )
    assert again == first
    assert kvlens.open(decided.save(tmp_path / "decision.json")) == decided


def test_refusals(lm, pairs, passages):
    other = make_profile([12.0, 11.0, 10.0, 9.0])
    for options, problem in (
        ({"texts": passages, "pairs": pairs}, "`texts` and `pairs` both judge"),
        ({"texts": calibration_texts(30)}, "at least 40 are needed"),
        ({"texts": passages, "profile": other}, "the profile is of"),
        ({"texts": passages, "widths": [9]}, "a window of 9 layers does not fit"),
        ({"texts": passages, "methods": ["none_such"]}, "unknown method 'none_such'"),
    ):
        with pytest.raises(InputError, match=problem):
            kvlens.choose(lm, **options)


def test_what_contradicts_itself_is_no_decision(decided):
    swapped = decided.model_dump(mode="json")
    proof = swapped["proof"]
    proof["rerouted"], proof["plain"] = proof["plain"], proof["rerouted"]
    with pytest.raises(ValueError, match="not of a row with re-routing and one without"):
        Decision.model_validate(swapped)
