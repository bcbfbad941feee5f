"""The laws that re-routing has to keep."""

import math

import pytest
import torch
from brute_force import (
    ARCHITECTURES,
    LAYERS,
    POSITIONS,
    VARIANTS,
    bridge_run,
    largest,
    logits_of,
    model,
    padded,
    raw_hidden,
    rope,
    sequences,
    visible,
    window_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kvlens import reroute


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_layers_is_the_plain_model_bit_for_bit(name):
    lm = model(name)
    ids, mask, positions, _ = padded(sequences(), "left")

    def outputs():
        yield raw_hidden(lm, ids, mask, positions)
        yield bridge_run(lm, ids, mask)[0]
        yield lm(ids, mask)

    plain = list(outputs())
    with reroute(lm, []):
        again = list(outputs())
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("bias", [-math.inf, -1e4])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_bias_of_minus_infinity_is_the_plain_model(name, bias):
    lm = model(name)
    for side in ("left", "right"):
        ids, mask, positions, spans = padded(sequences(), side)
        plain = raw_hidden(lm, ids, mask, positions)
        plain_bridged = bridge_run(lm, ids, mask)[0]
        with reroute(lm, range(4), bias):
            rerouted = raw_hidden(lm, ids, mask, positions)
            bridged = bridge_run(lm, ids, mask)[0]
        for states, expected in ((rerouted, plain), (bridged, plain_bridged)):
            assert torch.isfinite(states).all(), "padding too: 0 times NaN is NaN"
            for i, span in enumerate(spans):
                torch.testing.assert_close(states[i, span], expected[i, span], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_uptake_identity(name):
    """beta = sigmoid(s_last + b - lse) is the whole change of a layer.

    From what the bridge records.
    """
    lm = model(name)
    bias = 0.7
    layer = 2
    config = lm.base.config
    point = f"blocks.{layer}.attn."
    names = [point + f"hook_{n}" for n in ("q", "k", "v", "z", "pattern", "rot_q", "rot_k")]
    names = [name for name in names if name in lm.bridge.hook_dict or "rot" not in name]
    ids, mask, _, spans = padded(sequences(), "right")
    with reroute(lm, [layer], bias):
        _, recorded = bridge_run(lm, ids, mask, names)
    seen = {name.removeprefix(point + "hook_"): states for name, states in recorded.items()}
    for i, span in enumerate(spans):
        q, k, v, z = (seen[name][i, span].transpose(0, 1) for name in "qkvz")
        pattern = seen["pattern"][i, :, span].double()
        if "rot_q" in seen:
            q, k = (seen[name][i, span].transpose(0, 1) for name in ("rot_q", "rot_k"))
        else:  # joint QKV has no such hook, and GPT-2 no rotation
            q, k = (rope(lm.base, layer, x, range(q.shape[1])) for x in (q, k))
        scores = logits_of(config, layer, q, k).masked_fill(
            ~visible(q.shape[1], window_of(config, layer)), -math.inf
        )
        prefix = logits_of(config, layer, q, k[:, -1:])[..., 0]
        beta = torch.sigmoid(prefix + bias - scores.logsumexp(-1))[..., None]
        causal = scores.softmax(-1)
        values = v.double().repeat_interleave(len(q) // len(v), dim=0)
        assert len(beta[0]) < 5 or beta.max() - beta.min() > 0.1
        torch.testing.assert_close(pattern[..., :1], beta, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            pattern[..., 1:][..., span], (1 - beta) * causal, rtol=0, atol=1e-5
        )
        out = (1 - beta) * (causal @ values) + beta * values[:, -1:]
        torch.testing.assert_close(z.double(), out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mask_edit_identity(name):
    """No prefix at all: b at (i, last) for i < last and log(1 + e^b) at (last, last).

    Of the plain model's mask.
    """
    lm = model(name)
    bias = 1.3
    for side in ("left", "right"):
        ids, mask, positions, spans = padded(sequences(), side)
        handles = []
        for layer in LAYERS:
            seen = visible(ids.shape[1], window_of(lm.base.config, layer)) & mask[:, None, :].bool()
            edited = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
            for i, span in enumerate(spans):
                last = span.stop - 1
                edited[i, :last, last] = bias
                edited[i, last, last] = math.log1p(math.exp(bias))

            def edit(module, args, kwargs, edited=edited):
                return args, {**kwargs, "attention_mask": edited[:, None]}

            raw = lm.attention(layer)
            handles.append(raw.register_forward_pre_hook(edit, with_kwargs=True))
        expected = raw_hidden(lm, ids, mask, positions)
        for handle in handles:
            handle.remove()
        with reroute(lm, LAYERS, bias):
            states = raw_hidden(lm, ids, mask, positions)
        assert largest(states, [expected[i, span] for i, span in enumerate(spans)], spans) < 1e-4


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from([*ARCHITECTURES, *VARIANTS]),
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    layers=st.sets(st.integers(0, 3), min_size=1),
    bias=st.floats(-8, 8),
    position=st.sampled_from(POSITIONS),
    side=st.sampled_from(["left", "right"]),
    seed=st.integers(0, 10**6),
)
def test_a_batch_of_one_equals_the_same_text_in_a_batch(
    name, lengths, layers, bias, position, side, seed
):
    lm = model(name)
    rows = sequences(lengths, seed)
    ids, mask, positions, spans = padded(rows, side)
    with reroute(lm, sorted(layers), bias, position):
        many = raw_hidden(lm, ids, mask, positions)
        single = [raw_hidden(lm, row[None], None, None)[0] for row in rows]
    assert largest(many, single, spans) < 1e-4
