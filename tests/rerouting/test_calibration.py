"""Calibration states: whose they are, where they are found, and which text stands for another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo import TEXTS, tiny

import kvlens
from kvlens import Encoder, InputError, LayerSet, StaticPrefix, calibration, record, static_prefix
from kvlens.rerouting.calibration import PREFIX_FILE, Calibration
from kvlens.texts.token_hash import token_hash


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def trace(lm):
    return record(lm, TEXTS)


@pytest.fixture(scope="module")
def run(lm, trace, tmp_path_factory):
    """A folder with a layer set, and a static prefix beside it."""
    folder = tmp_path_factory.mktemp("run")
    points = record(lm, [f"{text} {number}" for text in TEXTS for number in range(12)])
    kvlens.select(kvlens.estimate(points), layers=[1, 2], rule="explicit").save(
        folder / "layers.json"
    )
    static_prefix(trace).save(folder / PREFIX_FILE)
    return folder


def test_a_trace_its_file_and_the_value_are_the_same(trace, tmp_path):
    of_value = calibration(trace)
    of_file = calibration(trace.save(tmp_path / "t.safetensors"))
    assert of_value == of_file == calibration(of_file)


def test_the_static_prefix_is_the_mean(trace, tmp_path):
    made = static_prefix(trace)
    for layer in trace.layers:
        for what, kind in (("key", "k_pre"), ("value", "v")):
            truth = getattr(trace, kind)[:, layer].double().mean(0).float()
            assert torch.equal(made.mean(kind, layer), truth)
            assert torch.equal(calibration(made).mean(what, layer), truth)
            assert torch.equal(calibration(trace).mean(what, layer), truth)
    again = kvlens.open(made.save(tmp_path / "p.safetensors"))
    assert isinstance(again, StaticPrefix)
    assert torch.equal(again.mean("v", 1), made.mean("v", 1))


@given(seed=st.integers(0, 1000), number=st.integers(0, len(TEXTS) - 1))
def test_no_text_stands_for_itself(trace, seed, number):
    text = trace.token_hashes[number]
    drawn = calibration_of(trace).other(text, seed)
    assert drawn != number
    assert 0 <= drawn < len(TEXTS)
    assert drawn == calibration_of(trace).other(text, seed)


def calibration_of(trace):
    return Calibration(trace, "any")


def test_seeds_draw_all_texts_about_as_often(trace):
    drawn = [calibration_of(trace).other(token_hash([1, 2]), seed) for seed in range(2000)]
    counts = torch.bincount(torch.tensor(drawn), minlength=len(TEXTS))
    assert counts.min() > 0.8 * 2000 / len(TEXTS)
    assert counts.max() < 1.2 * 2000 / len(TEXTS)


def test_what_is_no_calibration_is_refused(lm, trace, tmp_path):
    with pytest.raises(InputError, match="holds no k_pre"):
        calibration(record(lm, TEXTS, keep=("hidden", "v")))
    with pytest.raises(InputError, match="not a trace with k_pre and v, a static prefix, or a"):
        calibration(3)
    another = tiny("qwen2")
    with (
        pytest.raises(InputError, match=r"are of tiny-llama .*, not of tiny-qwen2"),
        kvlens.reroute(another, [1], value="mean", calibration=trace),
    ):
        pass
    some = record(lm, TEXTS, layers=[0, 1])
    with (
        pytest.raises(InputError, match="lack layer 2: record them again"),
        kvlens.reroute(lm, [1, 2], value="mean", calibration=some),
    ):
        pass
    with (
        pytest.raises(InputError, match="needs a calibration trace of at least 2 texts"),
        kvlens.reroute(lm, [1], value="other", calibration=static_prefix(trace)),
    ):
        lm(torch.tensor([[5, 6, 7]]))


def test_whatever_the_batch_the_same_text_is_drawn(lm, trace):
    encoder = Encoder(lm, layers=[1, 2], key="other", value="other", calibration=trace, seed=2)
    texts = [f"text {number} {'x' * number}" for number in range(7)]
    together = encoder.encode(texts)
    alone = [encoder.encode(text) for text in texts]
    assert abs(together - alone).max() < 1e-6
    other_seed = Encoder(lm, layers=[1, 2], key="other", value="other", calibration=trace, seed=3)
    assert abs(other_seed.encode(texts) - together).max() > 1e-3


def test_static_prefix_finds_its_states_beside_the_layer_set(lm, run, trace):
    found = Encoder(lm, "static_prefix", run / "layers.json")
    named = Encoder(lm, "kv_embedding", [1, 2], key="mean", value="mean", calibration=trace)
    assert abs(found.encode(TEXTS) - named.encode(TEXTS)).max() < 1e-6
    with pytest.raises(InputError, match="need `calibration`"):
        Encoder(lm, "static_prefix", [1, 2])


def test_a_layer_set_knows_its_calibration(lm, run, trace):
    """By hash; the file beside it is found, another one is refused."""
    layers = LayerSet.load(run / "layers.json")
    beside = calibration(run / PREFIX_FILE)
    control = {"value": "mean", "queries": "shielded", "calibration": beside.sha256}
    changed = LayerSet.model_validate({**layers.model_dump(), "control": control})
    path = changed.save(run / "mean.json")
    encoder = Encoder(lm, layers=path)
    route = encoder.method.route(lm)
    assert (route.control.value, route.control.queries) == ("mean", "shielded")
    assert encoder.method.settings()["calibration"] == beside.sha256
    with pytest.raises(InputError, match="need `calibration`"):
        Encoder(lm, layers=changed)
