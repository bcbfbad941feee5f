"""Keys and values of any token, against the KV cache of raw transformers."""

import numpy as np
import pytest
import torch
from families import family
from zoo import TEXTS

import kvlens
from kvlens import InputError
from kvlens.texts.prompts import get_prompt
from kvlens.texts.tokens import tokenize
from kvlens.tracing.spans import further_tokens

TOKENS = ("last", "first", "text", "5", "-2", "70-80", "300")


def truth(lm, text):
    """The cached keys and values of one text, the text's own span, and how long it is."""
    (tokenized,) = tokenize(lm.tokenizer, [text], get_prompt("kv-document-inner"), 256)
    with torch.no_grad():
        out = lm.base(torch.tensor([tokenized.ids]), use_cache=True)
    return out.past_key_values.layers, tokenized.span, len(tokenized.ids)


def wanted(span, n):
    return {
        "first": [0],
        "text": list(range(*span)),
        "5": [5],
        "-2": [n - 2],
        "70-80": [place for place in range(70, 81) if place < n],
        "300": [],
    }


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_they_are_those_of_the_cache(zoo, name, side):
    lm = zoo(name)
    trace = kvlens.record(lm, TEXTS, tokens=TOKENS, padding_side=side)
    plain = kvlens.record(lm, TEXTS)
    torch.testing.assert_close(trace.k, plain.k, rtol=1e-4, atol=1e-5)
    for text, item in enumerate(TEXTS):
        layers, span, n = truth(lm, item)
        for token, places in wanted(span, n).items():
            rows = trace.text_of(f"v@{token}") == text
            assert rows.sum() == len(places)
            for layer in trace.layers:
                for kind, cached in (("k", layers[layer].keys), ("v", layers[layer].values)):
                    own = trace.of_heads(layer, f"{kind}@{token}")[rows]
                    expected = cached[0][:, places].transpose(0, 1)
                    torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-4)
    # Position 0 is not rotated: there, both keys are the same.
    np.testing.assert_allclose(
        trace.states(2, "k@first"), trace.states(2, "k_pre@first"), atol=1e-4
    )


def test_they_are_saved_and_go_to_disk(zoo, tmp_path):
    lm = zoo("llama")
    texts = [f"text {i} of a few words" for i in range(60)]
    trace = kvlens.record(lm, texts, tokens=("text", "first"), keep=("v",))
    again = kvlens.Trace.load(trace.save(tmp_path / "t.safetensors"))
    shards = kvlens.record_shards(lm, texts, tmp_path / "t", tokens=("text", "first"), keep=("v",))
    assert "v@text" in repr(shards)
    for other in (again, shards):
        np.testing.assert_array_equal(other.text_of("v@text"), trace.text_of("v@text"))
        for kind in ("v", "v@text", "v@first"):
            np.testing.assert_array_equal(other.states(3, kind), trace.states(3, kind))
    assert shards.save(tmp_path / "s").read_bytes() == (tmp_path / "t.safetensors").read_bytes()
    several = kvlens.record_shards(lm, texts, tmp_path / "u", tokens=("text",), shard=17)
    np.testing.assert_array_equal(several.text_of("k@text"), trace.text_of("v@text"))
    np.testing.assert_allclose(several.states(1, "v@text"), trace.states(1, "v@text"), atol=1e-4)
    profile = kvlens.estimate(shards, "v@text", ("twonn",), draws=0)
    assert profile.points == "text"
    assert "independent" in profile.estimates["twonn"][0].warnings[-1]


def test_a_model_whose_layers_differ():
    lm = family("gemma4_text")
    trace = kvlens.record(lm, TEXTS[:2], "{text}", tokens=("first", "text"), keep=("v",))
    for layer in trace.key_layers:
        anatomy = lm.anatomy.layers[layer]
        assert trace.of_heads(layer, "v@first").shape == (2, anatomy.n_kv_heads, anatomy.d_value)


@pytest.mark.parametrize("name", ["", "second", "7-3", "1.5", "--1", "all", "3-"])
def test_what_names_no_tokens_is_refused(name):
    with pytest.raises(InputError, match=r"`tokens`.*: give last, first, text"):
        further_tokens([name])
    assert further_tokens(["last", "first", "first"]) == ("first",)


def test_other_tokens_need_keys_or_values(zoo):
    with pytest.raises(InputError, match=r"kept of k, k_pre and v: add one to `keep`"):
        kvlens.record(zoo("llama"), TEXTS, keep=("hidden",), tokens=("first",))
