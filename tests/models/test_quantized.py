"""Quantized weights: by bitsandbytes where it is, refused by their package where it is not."""

import sys

import numpy as np
import pytest
import torch
import transformers as tf
from model_folders import change, saved
from zoo import SHAPE, TEXTS, byte_tokenizer

import kvlens
from kvlens import InputError
from kvlens.cli import main
from kvlens.models import quantized
from kvlens.models.quantized import NEEDED, method_in, refuse_quantized, without_hub_kernels

IDS = torch.arange(5, 24)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As wide as blocks of 64 weights need it."""
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        **SHAPE | {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}
    )
    folder = tmp_path_factory.mktemp("wide")
    tf.LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def bitsandbytes():
    with without_hub_kernels():
        return pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_model_is_quantized_while_it_is_loaded(tmp_path, folder, kind, bitsandbytes):
    plain = kvlens.load(folder)
    lm = kvlens.load(folder, quantize=kind)
    assert lm.info.dtype == f"{kind}-float32"
    assert lm.info.revision == plain.info.revision
    weight = lm.blocks[1].mlp.up_proj.weight
    assert weight.numel() * weight.element_size() <= plain.blocks[1].mlp.up_proj.weight.numel()
    vectors = kvlens.Encoder(lm, "last_token").encode(TEXTS)
    exact = kvlens.Encoder(plain, "last_token").encode(TEXTS)
    difference = np.linalg.norm(vectors - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert 1e-4 < difference.max() < {"int8": 0.05, "nf4": 0.4}[kind]
    assert kvlens.check(lm, TEXTS).passed
    with kvlens.reroute(lm, [1]):
        assert not torch.equal(lm(IDS), plain(IDS))
    lm.hf.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    again = kvlens.load(tmp_path)
    assert again.info.dtype == lm.info.dtype
    torch.testing.assert_close(again(IDS), lm(IDS), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"already \(bitsandbytes\): leave `quantize` out"):
        kvlens.load(tmp_path, quantize="int8")


def test_weights_of_four_bits_are_those_of_their_table(folder, bitsandbytes):
    """Against the dequantized weights in a plain model."""
    lm = kvlens.load(folder, quantize="nf4")
    plain = tf.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name, module in lm.hf.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = module.weight
            exact = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
            plain.get_submodule(name).weight.data = exact
    with torch.no_grad():
        torch.testing.assert_close(lm(IDS), plain(IDS).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_quantized_model_in_memory_is_taken(folder, kind, bitsandbytes):
    named = kvlens.load(folder, quantize=kind)
    lm = kvlens.load(model=named.hf, tokenizer=named.tokenizer)
    assert lm.info.dtype == named.info.dtype
    again = kvlens.load(model=named.hf, tokenizer=named.tokenizer)
    assert again.info.revision == lm.info.revision
    assert torch.equal(lm(IDS), named(IDS))


@pytest.mark.parametrize("method", sorted(NEEDED.keys() - {"bitnet"}))
def test_a_package_that_is_missing_is_named(tmp_path, method, monkeypatch, capsys):
    folder = saved(tmp_path)
    change(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"is quantized \({method}\): pip install ") as error:
        kvlens.load(folder)
    assert "\n" not in str(error.value)
    assert main(["check", str(folder)]) == 2
    assert NEEDED[method][1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "fp8"}, r"\(fp8\) for kernels from the hub"),
        ({"quant_method": "mxfp4"}, r"\(mxfp4\) for kernels from the hub"),
        ({"quant_method": "newest"}, r"in a way that kvlens does not know \(newest\)"),
    ],
)
def test_what_is_never_loaded_is_refused_wherever_it_comes_from(config, message):
    """A config that was fetched a moment ago has been through no folder's checks."""
    for content in ({"quantization_config": config}, {"text": {"quantization_config": config}}):
        with pytest.raises(InputError, match=message):
            refuse_quantized(content, None, "x")
    assert method_in({"text_config": {}}) is None


def test_quantize_is_checked_before_anything_else(monkeypatch):
    with pytest.raises(InputError, match="unknown `quantize` 'int3': give one of int8, nf4"):
        kvlens.load("nobody/nothing", quantize="int3")
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="`quantize` needs the package bitsandbytes"):
        kvlens.load("nobody/nothing", quantize="nf4")


def test_kernels_of_the_hub_are_out_of_reach_while_loading(monkeypatch):
    monkeypatch.setitem(sys.modules, "kernels", sys)
    with without_hub_kernels(), pytest.raises(ImportError):
        import kernels  # noqa: F401
    assert sys.modules["kernels"] is sys
