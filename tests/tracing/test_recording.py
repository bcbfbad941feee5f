"""Recording: points, patterns, batches, layers, and what a refusal leaves behind."""

import pytest
import torch
from zoo import CONFIGS, TEXTS, tiny

from kvlens import InputError
from kvlens.texts.prompts import get_prompt
from kvlens.texts.tokens import tokenize
from kvlens.tracing.recording import record


def eager_truth(lm, text, prompt="kv-document-inner"):
    """Raw transformers, eager, with its own hidden states and attentions, of one text."""
    (tokenized,) = tokenize(lm.tokenizer, [text], get_prompt(prompt), 256)
    before = lm.hf.config._attn_implementation
    lm.hf.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = lm.base(
                torch.tensor([tokenized.ids]), output_hidden_states=True, output_attentions=True
            )
    finally:
        lm.hf.set_attn_implementation(before)
    return out


def hook_count(lm):
    return sum(len(point.fwd_hooks) for point in lm.bridge.hook_dict.values())


def test_points_equal_transformers_hidden_states(lm):
    traces = {points: record(lm, TEXTS, points=points) for points in ("last", "mean", "all")}
    for i, text in enumerate(TEXTS):
        states = torch.stack(eager_truth(lm, text).hidden_states[1:-1])[
            :, 0
        ]  # the last one is after the norm
        n = traces["last"].n_tokens[i]
        assert states.shape[1] == n
        torch.testing.assert_close(
            traces["last"].hidden[i, :-1], states[:, -1], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(
            traces["mean"].hidden[i, :-1], states.mean(1), rtol=1e-4, atol=1e-4
        )
        mine = traces["all"].hidden[traces["all"].text_index == i]
        torch.testing.assert_close(mine[:, :-1], states.transpose(0, 1), rtol=1e-4, atol=1e-4)


def test_patterns_equal_transformers_attentions(lm):
    trace = record(lm, TEXTS, patterns=True)
    for i, text in enumerate(TEXTS):
        truth = torch.stack(eager_truth(lm, text).attentions)[:, 0]
        torch.testing.assert_close(trace.tensors[f"pattern.{i}"], truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_of_one_equals_batch_of_many(lm, side):
    many = record(lm, TEXTS, padding_side=side, batch_tokens=10**6)
    for i, text in enumerate(TEXTS):
        single = record(lm, [text])
        for kind in ("hidden", "k", "k_pre", "v"):
            torch.testing.assert_close(
                many.tensors[kind][i], single.tensors[kind][0], rtol=1e-4, atol=1e-5
            )


def test_only_what_is_asked_for_is_kept_and_computed():
    lm = tiny("llama")
    full = record(lm, TEXTS)
    seen = []
    with lm.bridge.hooks(
        fwd_hooks=[(f"blocks.{i}.hook_resid_post", lambda x, hook: seen.append(1)) for i in (2, 3)]
    ):
        probe = len(seen)
        part = record(lm, TEXTS, keep=("k",), layers=[1], batch_tokens=10**6)
    assert set(part.tensors) == {"k"}
    assert torch.equal(part.k[:, 0], full.k[:, 1]) or torch.allclose(
        part.k[:, 0], full.k[:, 1], atol=1e-6
    )
    assert len(seen) == probe  # the two blocks above did not run


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
def test_nothing_is_left_behind_after_a_refusal(architecture):
    lm = tiny(architecture)
    ids = torch.arange(3, 40)[None]
    before = lm(ids)
    record(lm, TEXTS)
    hooks = hook_count(lm)
    with torch.no_grad():
        weight = next(iter(lm.bridge.blocks[2].mlp.state_dict().values()))
        saved = weight.clone()
        weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"NaN or infinity in .* of layer 2"):
        record(lm, TEXTS)
    with torch.no_grad():
        weight.copy_(saved)
    assert hook_count(lm) == hooks == 0
    assert torch.equal(lm(ids), before)


def test_bad_requests():
    lm = tiny("gpt2")
    for kwargs, message in (
        ({"points": "first"}, "unknown points"),
        ({"keep": ("w",)}, "cannot record"),
        ({"layers": [4]}, "0 to 3"),
        ({"layers": []}, "0 to 3"),
    ):
        with pytest.raises(InputError, match=message):
            record(lm, TEXTS, **kwargs)


def test_truncated_texts_are_counted():
    trace = record(tiny("llama"), ["word " * 200, "short"])
    assert trace.n_truncated == 1
    assert max(trace.n_tokens) == 256
