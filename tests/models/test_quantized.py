"""Quantized weights: by bitsandbytes where it is, refused by their package where it is not."""

import copy
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers as tf
from model_folders import change, saved
from safetensors.torch import load_file, save_file
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
        ({"quant_method": "eetq"}, r"\(eetq\) for kernels from the hub"),
        ({"quant_method": "nvfp4"}, r"\(nvfp4\) for kernels from the hub"),
        ({"quant_method": "newest"}, r"in a way that kvlens does not know \(newest\)"),
    ],
)
def test_what_is_never_loaded_is_refused_wherever_it_comes_from(config, message):
    """A config that was fetched a moment ago has been through no folder's checks."""
    for content in ({"quantization_config": config}, {"text": {"quantization_config": config}}):
        with pytest.raises(InputError, match=message):
            refuse_quantized(content, None, "x")
    assert method_in({"text_config": {}}) is None


def rewritten(folder, hf, change_tensors, entry):
    """A saved model whose tensors are changed, and the logits of what they stand for."""
    for parameter in hf.parameters():  # such checkpoints have what they do not pack in bfloat16
        parameter.data = parameter.data.bfloat16().float()
    copy.deepcopy(hf).bfloat16().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    exact = change_tensors(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    change(folder / "config.json", quantization_config=entry)
    assert not hf.load_state_dict(exact, strict=False).unexpected_keys
    with torch.no_grad():
        return hf.eval()(IDS).logits


def to_fp8(tensors):
    """Blocks of 64 by 64 numbers with a scale each."""
    exact = {}
    for name in [name for name in tensors if "proj" in name]:
        rows, columns = tensors[name].shape
        blocks = tensors[name].float().reshape(rows // 64, 64, columns // 64, 64)
        scales = blocks.abs().amax((1, 3)) / 448
        packed = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        exact[name] = (packed.float() * scales[:, None, :, None]).reshape(rows, columns)
        tensors[name] = packed.reshape(rows, columns)
        tensors[f"{name}_scale_inv"] = scales
    return exact


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
FP4 = torch.cat([FP4, -FP4])


def to_mxfp4(tensors):
    """Two numbers of four bits in a byte, and an exponent for 32 of them."""
    exact = {}
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, rows, columns = tensors.pop(name).shape
        shape = (experts, columns, rows // 32)
        blocks = torch.randint(0, 256, (*shape, 16), dtype=torch.uint8)
        scales = torch.randint(121, 124, shape, dtype=torch.uint8)
        pairs = torch.stack([FP4[(blocks & 15).long()], FP4[(blocks >> 4).long()]], -1)
        numbers = pairs.flatten(-2) * torch.exp2(scales.float() - 127)[..., None]
        exact[name] = numbers.flatten(-2).transpose(1, 2).contiguous()
        tensors[f"{name}_blocks"] = blocks
        tensors[f"{name}_scales"] = scales
    return exact


def llama_of_fp8(folder):
    widths = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}
    hf = tf.LlamaForCausalLM(tf.LlamaConfig(**SHAPE | widths))
    return rewritten(folder, hf, to_fp8, {"quant_method": "fp8", "weight_block_size": [64, 64]})


def gpt_oss_of_mxfp4(folder):
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8}
    widths = {"hidden_size": 64, "intermediate_size": 32, "head_dim": 16}
    hf = tf.GptOssForCausalLM(tf.GptOssConfig(**SHAPE | widths | experts))
    return rewritten(folder, hf, to_mxfp4, {"quant_method": "mxfp4"})


@pytest.mark.parametrize("made", [llama_of_fp8, gpt_oss_of_mxfp4])
def test_weights_whose_kernels_are_on_the_hub_are_unpacked(tmp_path, made):
    torch.manual_seed(0)
    expected = made(tmp_path)
    lm = kvlens.load(tmp_path)
    assert lm.info.dtype == "float32"
    assert {parameter.dtype for parameter in lm.hf.parameters()} == {torch.float32}
    torch.testing.assert_close(lm(IDS), expected, rtol=1e-5, atol=1e-6)
    half = kvlens.load(tmp_path, dtype="bfloat16")
    assert half.blocks[1].self_attn.q_proj.weight.dtype == torch.bfloat16
    assert (half(IDS) - expected).abs().max() < 0.05 * expected.abs().max()
    is_here = find_spec("bitsandbytes")
    words = "quantized already" if is_here else "needs the package bitsandbytes"
    with pytest.raises(InputError, match=words):
        kvlens.load(tmp_path, quantize="int8")


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
