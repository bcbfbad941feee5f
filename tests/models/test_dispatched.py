"""A model that accelerate spreads over memory and disk is the model that is loaded whole."""

import sys

import numpy as np
import pytest
import torch
import transformers as tf
from model_folders import saved
from towers import saved_wrapper
from zoo import TEXTS, tiny

import kvlens
from kvlens import InputError
from kvlens.cli import main
from kvlens.models.dispatched import value_of, weights_of

pytest.importorskip("accelerate")
IDS = torch.arange(5, 24)[None]
KINDS = ("llama", "gemma2", "gemma3", "qwen3", "phi3", "neox", "gpt2")
ON_DISK = (
    "embed_tokens",
    "embed_in",
    "wte",
    "wpe",
    "layers.1",
    "layers.2",
    "h.1",
    "h.2",
    "lm_head",
    "embed_out",
)
SPREAD = {
    "model.embed_tokens": "disk",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.layers.3": "cpu",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}


def spread_out(folder):
    """The same map for every architecture: blocks 0 and 3 in memory, ids and logits by disk."""
    with torch.device("meta"):
        hf = tf.AutoModelForCausalLM.from_config(tf.AutoConfig.from_pretrained(folder))
    decoder = hf.base_model_prefix
    parts = [name for name, _ in hf.named_children() if name != decoder]
    for name, child in getattr(hf, decoder).named_children():
        blocks = [f".{number}" for number in range(4)] if len(list(child.children())) == 4 else [""]
        parts += [f"{decoder}.{name}{block}" for block in blocks]
    return {part: "disk" if part.endswith(ON_DISK) else "cpu" for part in parts}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("spread"), request.param)


@pytest.fixture(scope="module")
def whole(folder):
    return kvlens.load(folder)


@pytest.fixture(scope="module")
def spread(folder):
    return kvlens.load(folder, device_map=spread_out(folder))


def test_half_of_it_is_on_disk(spread):
    away = [name for name, tensor in spread.hf.state_dict().items() if tensor.is_meta]
    assert any(".1." in name for name in away)
    assert not any(".0." in name for name in away)
    assert spread.device == torch.device("cpu")
    assert spread.info.device == "cpu"


def test_it_is_the_same_model(whole, spread):
    assert spread.info == whole.info
    expected = dict(weights_of(whole.hf))
    for name, tensor in weights_of(spread.hf):
        assert torch.equal(tensor, expected.pop(name)), name
    assert not expected


def test_it_computes_the_same(whole, spread):
    assert torch.equal(spread(IDS), whole(IDS))
    for method in ("last_token", "mean", "token_prepending"):
        np.testing.assert_array_equal(
            kvlens.Encoder(spread, method).encode(TEXTS),
            kvlens.Encoder(whole, method).encode(TEXTS),
        )


@pytest.mark.parametrize("side", ["left", "right"])
def test_it_is_rerouted_the_same(whole, spread, side):
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, slice(0, 5) if side == "left" else slice(7, 12)] = 0
    ids = torch.arange(5, 29).reshape(2, 12)
    logits = []
    for lm in (whole, spread):
        with kvlens.reroute(lm, [1, 3]):
            logits.append(lm(ids, attention_mask=mask))
    assert torch.equal(*logits)
    assert not torch.equal(logits[1], spread(ids, attention_mask=mask))


def test_it_is_recorded_the_same(whole, spread):
    expected = kvlens.record(whole, TEXTS)
    trace = kvlens.record(spread, TEXTS)
    for kind in expected.tensors:
        assert torch.equal(trace.tensors[kind], expected.tensors[kind]), kind
    assert kvlens.check(spread, TEXTS).passed


def test_the_bridge_holds_no_second_copy_of_what_is_away(spread):
    tree = spread.bridge.original_model
    weights = [parameter for parameter in tree.parameters() if parameter.is_meta]
    assert len(weights) >= 10


def test_a_model_in_memory_may_be_spread(folder, whole):
    parts = spread_out(folder)
    hf = tf.AutoModelForCausalLM.from_pretrained(folder, device_map=parts, dtype=torch.float32)
    lm = kvlens.load(model=hf, tokenizer=whole.tokenizer)
    again = kvlens.load(model=whole.hf, tokenizer=whole.tokenizer)
    assert lm.info.revision == again.info.revision
    assert torch.equal(lm(IDS), whole(IDS))
    assert torch.equal(hf(IDS).logits, whole(IDS))


def test_weights_of_another_dtype_are_converted_on_their_way(tmp_path):
    lm = tiny("llama")
    lm.hf.bfloat16().save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    whole = kvlens.load(tmp_path)
    spread = kvlens.load(tmp_path, device_map=SPREAD)
    assert whole.info.dtype == spread.info.dtype == "float32"
    assert torch.equal(spread(IDS), whole(IDS))
    assert value_of(spread.hf, "model.layers.1.mlp.up_proj.weight").dtype == torch.float32


def test_a_text_decoder_in_a_wrapper_may_be_spread(tmp_path):
    folder = saved_wrapper(tmp_path, "gemma3")
    parts = {
        "model.vision_tower": "disk",
        "model.multi_modal_projector": "disk",
        "model.language_model": "cpu",
        "lm_head": "cpu",
    }
    spread = kvlens.load(folder, device_map=parts)
    assert torch.equal(spread(IDS), kvlens.load(folder)(IDS))


def test_broken_weights_are_found_on_disk(tmp_path):
    lm = tiny("llama")
    with torch.no_grad():
        lm.hf.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    lm.hf.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"NaN or infinity in model\.layers\.1\.mlp\.up_proj"):
        kvlens.load(tmp_path, device_map=SPREAD)


def test_tied_weights_in_two_places_are_refused(tmp_path):
    parts = spread_out(saved(tmp_path, "gemma2")) | {"model.embed_tokens": "cpu"}
    with pytest.raises(InputError, match=r"lm_head\.weight is tied to a weight on another device"):
        kvlens.load(tmp_path / "model", device_map=parts)


def test_auto_on_a_machine_with_memory_is_the_whole_model(folder, whole):
    assert kvlens.load(folder, device_map="auto").info == whole.info


def test_bad_maps_are_refused(folder, monkeypatch, capsys):
    for wrong, message in (
        ({"device_map": "somewhere"}, "`device_map` is .*, not one of auto, balanced"),
        ({"device_map": {"": "warp"}}, "cannot load"),
        ({"device_map": "auto", "device": "cpu"}, "`device` or `device_map`, not both"),
    ):
        with pytest.raises(InputError, match=message) as error:
            kvlens.load(folder, **wrong)
        assert "\n" not in str(error.value)
    assert main(["check", str(folder), "--device-map", "somewhere"]) == 2
    assert "--device-map" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr("kvlens.models.dispatched.find_spec", lambda name: None)
    with pytest.raises(InputError, match="`device_map` needs the package accelerate"):
        kvlens.load(folder, device_map="auto")
