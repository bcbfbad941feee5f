"""Re-routing against a brute-force oracle that shares no code with it, and its refusals."""

import copy
import functools
import itertools
import math

import pytest
import torch
import transformers as tf
from brute_force import (
    ARCHITECTURES,
    BIASES,
    LAYERS,
    POSITIONS,
    VARIANTS,
    WINDOW,
    bridge_run,
    brute_force,
    largest,
    model,
    padded,
    raw_hidden,
    sequences,
)
from embedding_cases import layer_set
from zoo import CONFIGS, tiny

from kvlens import InputError, reroute
from kvlens.layers.route import Route

close = functools.partial(torch.testing.assert_close, rtol=0)


@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
def test_the_oracle_without_a_prefix_is_the_plain_model(name):
    for row in sequences():
        plain = raw_hidden(model(name), row[None], None, None)[0]
        close(brute_force(name, row, {})[0], plain, atol=2e-5)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, *VARIANTS])
def test_equal_to_brute_force(name, position):
    lm = model(name)
    rows = sequences()
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in LAYERS]
    for bias in BIASES if name in CONFIGS else BIASES[2:]:
        truth = [brute_force(name, row, dict.fromkeys(LAYERS, bias), position) for row in rows]
        batches = [(rows, truth, 0)] + [([rows[i]], [truth[i]], 3) for i in (0, -1)]
        for side, (texts, expected, extra) in itertools.product(("left", "right"), batches):
            ids, mask, positions, spans = padded(texts, side, extra)
            hidden = [states for states, _ in expected]
            with reroute(lm, LAYERS, bias, position):
                assert largest(raw_hidden(lm, ids, mask, positions), hidden, spans) < 1e-4
                bridged, patterns = bridge_run(lm, ids, mask, names)
            assert largest(bridged, hidden, spans) < 1e-4
            for layer, hook_name in zip(LAYERS, names, strict=True):
                pattern = patterns[hook_name]
                assert pattern.shape == (len(texts), 4, ids.shape[1], 1 + ids.shape[1])
                close(pattern.sum(-1), torch.ones(pattern.shape[:-1]), atol=1e-5)
                for i, span in enumerate(spans):
                    of_text = pattern[i, :, span]
                    prefix, causal = of_text[..., :1], of_text[..., 1:][..., span]
                    real = torch.cat([prefix, causal], dim=-1)
                    close(real.double(), expected[i][1][layer], atol=2e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_bias_per_layer(name):
    lm = model(name)
    rows = sequences()
    biases = {3: 5.0, 1: -1.0}
    ids, mask, positions, spans = padded(rows, "left")
    truth = [brute_force(name, row, biases)[0] for row in rows]
    with reroute(lm, list(biases), list(biases.values())):
        assert largest(raw_hidden(lm, ids, mask, positions), truth, spans) < 1e-4
        assert largest(bridge_run(lm, ids, mask)[0], truth, spans) < 1e-4
    # The same two the other way round give another result.
    with reroute(lm, list(biases), [-1.0, 5.0]):
        assert largest(raw_hidden(lm, ids, mask, positions), truth, spans) > 1e-2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_position_codings_differ_where_the_model_rotates(name):
    """So that the proof above cannot pass with the wrong one."""
    lm = model(name)
    (row,) = sequences([20])
    states = {}
    for position in POSITIONS:
        with reroute(lm, LAYERS, 1.0, position):
            states[position] = raw_hidden(lm, row[None], None, None)
    difference = float((states["keep"] - states["none"]).abs().max())
    assert difference == 0 if name == "gpt2" else difference > 1e-2
    close(states["origin"], states["none"], atol=1e-5)


def test_origin_differs_from_none_where_the_tables_are_scaled():
    lm = model("llama-yarn")
    (row,) = sequences([20])
    assert lm.base.rotary_emb.attention_scaling > 1.1
    states = {}
    for position in ("origin", "none"):
        with reroute(lm, LAYERS, 1.0, position):
            states[position] = raw_hidden(lm, row[None], None, None)
    assert float((states["origin"] - states["none"]).abs().max()) > 1e-2


def test_logits_through_the_object_itself():
    lm = model("llama")
    rows = sequences()
    ids, mask, _, spans = padded(rows, "left")
    with reroute(lm, LAYERS, 1.0):
        logits = lm(ids, attention_mask=mask)
    for i, row in enumerate(rows):
        truth = lm.hf.lm_head(brute_force("llama", row, dict.fromkeys(LAYERS, 1.0))[0])
        torch.testing.assert_close(logits[i, spans[i]], truth, rtol=1e-4, atol=1e-4)


def test_half_precision_stays_half_and_close():
    lm = tiny("llama")
    (row,) = sequences([26])
    expected = brute_force("llama", row, dict.fromkeys(LAYERS, 1.0), "origin")[0]
    lm.hf.to(torch.bfloat16)
    with reroute(lm, LAYERS, 1.0, "origin"):
        half = raw_hidden(lm, row[None], None, None)
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(half[0].float(), expected, dim=-1).min() > 0.995


def test_a_route_and_a_layer_set_bring_bias_and_position_along():
    lm = model("llama")
    (row,) = sequences([20])
    route = Route((1, 3), (2.0, -1.0), "none")
    with reroute(lm, route.layers, route.bias, route.position):
        expected = raw_hidden(lm, row[None], None, None)
    for named in (route, layer_set(lm, route.layers, bias=route.bias, position=route.position)):
        with reroute(lm, named):
            assert torch.equal(raw_hidden(lm, row[None], None, None), expected)
    with reroute(lm, route, bias=0.0):
        assert not torch.equal(raw_hidden(lm, row[None], None, None), expected)


def test_bad_requests_say_what_is_wrong():
    lm = tiny("llama")
    for layers, bias, position, message in (
        ([4], 1.0, "keep", r"layer 4 is outside tiny-llama, which has layers 0 to 3"),
        ([-1], 1.0, "keep", r"layer -1 is outside"),
        ([1, 1], 1.0, "keep", r"\[1, 1\] repeat one"),
        ([1, 2], [1.0], "keep", "1 biases for 2 layers"),
        ([1], math.nan, "keep", "bias"),
        ([1, 2], [1.0, math.nan], "keep", "bias"),
        ([1], math.inf, "keep", "bias"),
        ([1], 1.0, "middle", "unknown position coding 'middle': give keep, origin, none"),
    ):
        with pytest.raises(InputError, match=message) as error, reroute(lm, layers, bias, position):
            pass
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_filled_cache_is_refused_and_an_empty_one_is_left_clean(name):
    lm = model(name)
    (row,) = sequences([12])
    with torch.no_grad(), reroute(lm, LAYERS):
        expected = raw_hidden(lm, row[None], None, None, use_cache=False)
        out = lm.base(row[None], use_cache=True)
        close(out.last_hidden_state, expected, atol=1e-5)
        cached = tf.DynamicCache(out.past_key_values).layers
        assert {layer.keys.shape[2] for layer in cached} <= {WINDOW - 1, 12}
        for step in (1, 12):
            with pytest.raises(InputError, match="not on a filled KV cache"):
                lm.base(
                    row[None, :step],
                    past_key_values=copy.deepcopy(out.past_key_values),
                    use_cache=True,
                )
