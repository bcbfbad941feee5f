"""q, z and attn_out against eager attention: its weights, its cache, its modules' own output."""

import numpy as np
import pytest
import torch
from families import family
from zoo import TEXTS

import kvlens
from kvlens import InputError
from kvlens.texts.prompts import get_prompt
from kvlens.texts.tokens import tokenize

KEEP = ("q", "k", "v", "z", "attn_out")


def eager(lm, text):
    """Attention weights, cached keys and values, and what each attention module gives, raw."""
    (tokenized,) = tokenize(lm.tokenizer, [text], get_prompt("kv-document-inner"), 256)
    outputs = {}
    handles = [
        lm.attention(layer).register_forward_hook(
            lambda module, args, output, layer=layer: outputs.update({layer: output[0][0]})
        )
        for layer in lm.anatomy.key_layers
    ]
    before = lm.hf.config._attn_implementation
    lm.hf.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = lm.base(torch.tensor([tokenized.ids]), output_attentions=True, use_cache=True)
    finally:
        lm.hf.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
    return out, outputs


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2", "neox", "phi3"])
def recorded(request, zoo):
    lm = zoo(request.param)
    return lm, kvlens.record(lm, TEXTS, keep=KEEP)


def test_they_are_those_of_eager_attention(recorded):
    lm, trace = recorded
    for text in (0, 3):
        out, outputs = eager(lm, TEXTS[text])
        for layer in trace.layers:
            weights = out.attentions[layer][0, :, -1]
            cached = out.past_key_values.layers[layer]
            groups = lm.info.n_heads // lm.info.n_kv_heads
            keys = cached.keys[0].repeat_interleave(groups, 0)
            values = cached.values[0].repeat_interleave(groups, 0)
            q = trace.of_heads(layer, "q")[text]
            logits = torch.einsum("hd,hnd->hn", q, keys) / lm.info.d_head**0.5
            torch.testing.assert_close(logits.softmax(-1), weights, rtol=1e-3, atol=1e-5)
            z = torch.einsum("hn,hnd->hd", weights, values)
            torch.testing.assert_close(trace.of_heads(layer, "z")[text], z, rtol=1e-3, atol=1e-5)
            own = torch.from_numpy(trace.states(layer, "attn_out")[text])
            torch.testing.assert_close(own, outputs[layer][-1], rtol=1e-3, atol=1e-5)


def test_the_rest_is_as_without_them_and_all_of_it_goes_to_disk(recorded, tmp_path):
    lm, trace = recorded
    plain = kvlens.record(lm, TEXTS, keep=("k", "v"))
    shards = kvlens.record_shards(lm, TEXTS, tmp_path / "trace", keep=KEEP)
    again = kvlens.Trace.load(trace.save(tmp_path / "trace.safetensors"))
    for kind in ("k", "v"):
        torch.testing.assert_close(getattr(trace, kind), getattr(plain, kind), rtol=1e-4, atol=1e-5)
    for kind in KEEP:
        assert torch.equal(getattr(shards, kind), getattr(trace, kind))
        assert torch.equal(getattr(again, kind), getattr(trace, kind))
    side = kvlens.record(lm, TEXTS, keep=KEEP, padding_side="left", batch_tokens=10**6)
    np.testing.assert_allclose(side.states(3, "z"), trace.states(3, "z"), rtol=1e-3, atol=1e-5)


def test_layers_of_other_sizes():
    lm = family("gemma4_text")
    trace = kvlens.record(lm, TEXTS[:2], "{text}", keep=("q", "z", "attn_out"))
    for layer in trace.key_layers:
        anatomy = lm.anatomy.layers[layer]
        assert trace.of_heads(layer, "q").shape == (2, anatomy.n_heads, anatomy.d_key)
        assert trace.of_heads(layer, "z").shape == (2, anatomy.n_heads, anatomy.d_value)
        assert trace.states(layer, "attn_out").shape == (2, lm.info.d_model)


def test_patterns_are_read_elsewhere(zoo):
    with pytest.raises(InputError, match=r"cannot record patterns of .*: q are read in raw"):
        kvlens.record(zoo("llama"), TEXTS, keep=("q",), patterns=True)
