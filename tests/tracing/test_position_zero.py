"""Position 0: its state's length is that of raw transformers; a planted spike shows."""

import numpy as np
import pytest
import torch
from zoo import TEXTS, tiny

import kvlens
from kvlens.dimension.sink import sink_of
from kvlens.models.catalog import is_cached
from kvlens.texts.batches import pad
from kvlens.texts.prompts import get_prompt
from kvlens.texts.tokens import tokenize
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.position_zero import length_ratios
from kvlens.tracing.recording import record
from kvlens.tracing.request import Request

PROMPT = "kv-document-inner"


def raw_ratios(lm, texts, prompt=PROMPT):
    """By raw transformers, a text at a time, before the first block and after each but the last.

    The state after the last block is not among transformers' own, which normalise it.
    """
    rows = []
    for tokenized in tokenize(lm.tokenizer, texts, get_prompt(prompt), 256):
        with torch.no_grad():
            out = lm.base(torch.tensor([tokenized.ids]), output_hidden_states=True)
        lengths = [states[0].norm(dim=-1).numpy() for states in out.hidden_states[:-1]]
        rows.append([each[0] / np.median(each[1:]) if len(each) > 1 else 0 for each in lengths])
    return np.array(rows)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", [PROMPT, "raw"])
def test_it_equals_raw_transformers(lm, side, prompt):
    trace = record(lm, TEXTS, prompt, keep=("v",), padding_side=side, batch_tokens=10**6)
    assert trace.position_zero.shape == (len(TEXTS), lm.info.n_layers + 1)
    truth = raw_ratios(lm, TEXTS, prompt)
    np.testing.assert_allclose(trace.position_zero[:, :-1], truth, rtol=1e-4)
    # The prompted texts are several tokens long, the third raw one is "x" alone.
    assert (trace.position_zero == 0).any(1).tolist() == [
        prompt == "raw" and text == "x" for text in TEXTS
    ]


def test_it_needs_every_layer(zoo):
    trace = record(zoo("llama"), TEXTS, layers=[0, 1, 2])
    assert set(trace.tensors) == {"hidden", "k", "k_pre", "v"}
    with pytest.raises(AttributeError):
        _ = trace.position_zero


def test_it_is_saved_with_the_trace(zoo, tmp_path):
    trace = record(zoo("llama"), TEXTS, keep=("v",))
    again = kvlens.Trace.load(trace.save(tmp_path / "t.safetensors"))
    assert torch.equal(again.position_zero, trace.position_zero)


def with_a_spike(block, token):
    """A llama whose other blocks do nothing, and whose `block` lengthens the states of a token."""
    lm = tiny("llama")
    with torch.no_grad():
        table = lm.hf.model.embed_tokens.weight
        table[:, -1] = 0
        table[token] = 0
        table[token, -1] = 1
        for layer, each in enumerate(lm.hf.model.layers):
            each.self_attn.o_proj.weight.zero_()
            each.mlp.down_proj.weight.zero_()
            if layer == block:  # a neuron that sees the token alone
                for weight in (each.mlp.gate_proj.weight, each.mlp.up_proj.weight):
                    weight[0] = 0
                    weight[0, -1] = 1
                each.mlp.down_proj.weight[3, 0] = 30
    return lm


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("block", range(4))
def test_a_planted_spike_is_found_at_its_block(block, side):
    (token,) = tiny("llama").tokenizer("Q")["input_ids"]
    lm = with_a_spike(block, token)
    texts = [f"Q{text} and more" for text in TEXTS]
    sink = sink_of(record(lm, texts, "raw", padding_side=side).position_zero.numpy())
    assert (sink.block, sink.share, sink.n) == (block, 1.0, len(texts))
    # The same token elsewhere is no matter of position 0.
    elsewhere = [f"{text} and Q" for text in TEXTS]
    trace = record(lm, elsewhere, "raw", padding_side=side)
    assert sink_of(trace.position_zero.numpy()).block is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_may_hold_anything(dtype):
    states = torch.ones(2, 5, 4, dtype=dtype)
    states[0, 0] = 7
    states[1, 2] = 5
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    for padding in (0.0, 1e30, torch.nan, torch.inf):
        states[mask == 0] = padding
        assert length_ratios(states, mask).tolist() == [7, 5]


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        pytest.param((3, 2, 4, 1), 1.0, id="several streams"),
        pytest.param((2, 4, 2), 1.0, id="several streams side by side"),
        pytest.param((2, 4, 1), torch.nan, id="nan"),
        pytest.param((4, 1), 1.0, id="no batch"),
    ],
)
def test_states_without_a_length_are_left_out(shape, value, zoo):
    (short, long) = tokenize(zoo("llama").tokenizer, ["ab", "abcd"], get_prompt("raw"), 9)
    lm = zoo("llama")
    request = Request.of(lm.info, "last", ("hidden",), None, False)
    one_stream = torch.ones(2, 4, lm.info.d_model)
    *axes, streams = shape
    states = torch.full((*axes, streams * lm.info.d_model), value)
    for second, is_known in ((one_stream, True), (states, False)):
        buffers = Buffers(lm.anatomy, lm.info, request, [2, 4])
        with buffers.filled(pad([short, long], [0, 1], 0)):
            for column in range(lm.info.n_layers):
                buffers.store_length(column, one_stream)
            buffers.store_length(lm.info.n_layers, second)
        assert (buffers.position_zero.whole() is not None) == is_known


@pytest.mark.real
@pytest.mark.parametrize(("name", "block"), [("smollm2-135m", 11), ("gemma3-270m", 0)])
def test_b_star_of_real_models(name, block):
    """By raw transformers too, where every text agrees."""
    if not is_cached(name):
        pytest.skip(f"{name} is not here")
    lm = kvlens.load(name)
    texts = list(kvlens.calibration_texts(6).items)
    found = record(lm, texts, keep=("v",)).position_zero[:, :-1]
    truth = raw_ratios(lm, texts)
    np.testing.assert_allclose(found, truth, rtol=1e-3)
    assert (np.diff(truth).argmax(1) == block).all()
    sink = sink_of(found.numpy())
    assert (sink.block, sink.share) == (block, 1.0)
    assert sink.after > 20
