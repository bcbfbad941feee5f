"""The attention shift against patterns measured layer by layer, and numpy over single texts."""

import math

import numpy as np
import pytest
import torch
import transformers as tf
from attention_by_hand import BIAS, LAYERS, PROMPT, patterns_at, quantities
from families import family
from test_old_files import DATA
from zoo import TEXTS, byte_tokenizer, tiny

from kvlens import InputError, LanguageModel, LayerSet, reroute
from kvlens.analysis.attention import KINDS
from kvlens.analysis.uptake import attention_patterns, attention_shift
from kvlens.layers.route import Route
from kvlens.texts.batches import pad
from kvlens.texts.prompts import DEFAULT_DOCUMENT
from kvlens.texts.tokens import tokenize

TEXT = TEXTS[3]
BINS = 4


@pytest.fixture(scope="module")
def llama(zoo):
    return zoo("llama")


@pytest.mark.parametrize("position", ["keep", "none"])
def test_patterns_are_those_measured_layer_by_layer(lm, position):
    patterns = attention_patterns(lm, TEXT, LAYERS, BIAS, position, PROMPT)
    before, after, beta = (patterns.arrays[name] for name in ("before", "after", "beta"))
    n = len(patterns.tokens)
    assert (before.shape, after.shape, beta.shape) == ((2, 4, n, n), (2, 4, n, 1 + n), (2, 4, n))
    assert beta.max() - beta.min() > 0.3
    np.testing.assert_allclose(before, patterns_at(lm, TEXT, []), atol=1e-6)
    np.testing.assert_allclose(after, patterns_at(lm, TEXT, LAYERS, BIAS, position), atol=2e-6)
    for row, layer in enumerate(LAYERS):
        alone = patterns_at(lm, TEXT, [layer], BIAS[row], position)[row]
        np.testing.assert_allclose(beta[row], alone[..., 0], atol=2e-6)
        np.testing.assert_allclose(
            (1 - beta[row, ..., None]) * before[row], alone[..., 1:], atol=2e-6
        )
    np.testing.assert_allclose(after[0, ..., 0], beta[0], atol=2e-6)  # nothing below the first one
    assert np.abs(after[1, ..., 0] - beta[1]).max() > 1e-3


class ByHand:
    """What numpy gathers of single texts, as a shift summarises it."""

    def __init__(self):
        self.slots = {}
        self.ends = {kind: [] for kind in KINDS}

    def add(self, lm, text, span):
        values, (start, end) = quantities(lm, text)
        n = values["beta.local"].shape[-1]
        if span == "prompted":
            start, end = 0, n
        for name, by_token in values.items():
            slots = self.slots.setdefault(name, [[] for _ in range(BINS)])
            stop = min(end, n - 1) if name.startswith("final") else end
            for i in range(start, stop):
                slots[BINS * (i - start) // (end - start)].append(by_token[..., i])
        tenth = math.ceil((end - start) / 10)
        for kind in KINDS:
            beta = values[f"beta.{kind}"]
            first = beta[..., start : start + tenth].mean(-1)
            last = beta[..., end - tenth : end].mean(-1)
            self.ends[kind].append([first, last])


@pytest.mark.slow
@pytest.mark.parametrize("span", ["prompted", "text"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "neox"])
def test_summaries_are_those_of_numpy_over_single_texts(architecture, span, zoo):
    lm = zoo(architecture)
    shift = attention_shift(lm, TEXTS, LAYERS, BIAS, prompt=PROMPT, bins=BINS, span=span)
    by_hand = ByHand()
    for text in TEXTS:
        by_hand.add(lm, text, span)
    means = {key.rsplit(".", 1)[0] for key in shift.arrays if key.endswith(".mean")}
    assert means == set(by_hand.slots)
    for name, slots in by_hand.slots.items():
        assert shift.arrays[f"{name}.n"].tolist() == [len(slot) for slot in slots]
        for part, summary in (("mean", np.mean), ("std", np.std)):
            expected = np.stack([summary(slot, axis=0) for slot in slots], axis=-1)
            np.testing.assert_allclose(
                shift.arrays[f"{name}.{part}"], expected, rtol=2e-4, atol=2e-5, err_msg=name
            )
    for kind, ends in by_hand.ends.items():
        np.testing.assert_allclose(shift.arrays[f"ends.{kind}"], ends, atol=2e-6)
        mean, std, n = shift.ends(kind)
        per_text = np.array(ends).mean(-1)
        np.testing.assert_allclose(mean, per_text.mean(0), atol=2e-6)
        np.testing.assert_allclose(std, per_text.std(0, ddof=1), atol=2e-6)
        assert n == len(TEXTS)


def test_a_batch_of_one_is_a_batch_of_many(lm):
    seen = []
    together = attention_shift(lm, TEXTS, LAYERS, BIAS, prompt=PROMPT, batch_tokens=10_000)
    alone = attention_shift(
        lm, TEXTS, LAYERS, BIAS, prompt=PROMPT, batch_tokens=1, progress=lambda *x: seen.append(x)
    )
    assert seen == [(i + 1, len(TEXTS)) for i in range(len(TEXTS))]
    assert together.arrays.keys() == alone.arrays.keys()
    for name, values in together.arrays.items():
        np.testing.assert_allclose(values, alone.arrays[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_bias_of_minus_infinity_changes_nothing(lm):
    shift = attention_shift(lm, TEXTS, LAYERS, -math.inf, prompt=PROMPT)
    for kind in KINDS:
        assert (shift.arrays[f"beta.{kind}.mean"] == 0).all()
        assert (shift.arrays[f"sink.{kind}.mean"] == 0).all()
        np.testing.assert_allclose(
            shift.arrays[f"entropy.{kind}.mean"], shift.arrays["entropy.before.mean"], atol=1e-6
        )
    assert (shift.arrays["moved.relative.mean"] == 0).all()


def test_layers_are_sorted_and_keep_their_bias(llama):
    ascending = attention_shift(llama, TEXTS, LAYERS, BIAS, prompt=PROMPT)
    descending = attention_shift(llama, TEXTS, LAYERS[::-1], BIAS[::-1], prompt=PROMPT)
    for shift in (ascending, descending):
        assert (shift.layers, shift.bias) == (LAYERS, BIAS)
    np.testing.assert_array_equal(
        ascending.arrays["beta.local.mean"], descending.arrays["beta.local.mean"]
    )


def test_a_layer_set_brings_everything_along(llama):
    chosen = LayerSet.load(DATA / "layers_explicit.json")
    route = Route.of(chosen.model, chosen)
    document = chosen.prompts.document
    expected = attention_patterns(llama, "x", route, prompt=document)
    for layers in (chosen, DATA / "layers_explicit.json"):
        patterns = attention_patterns(llama, "x", layers, force=True)
        assert (patterns.layers, patterns.bias) == (route.layers, route.bias)
        assert (patterns.position, patterns.prompt) == (route.position, document)
        np.testing.assert_array_equal(patterns.arrays["after"], expected.arrays["after"])
    with pytest.raises(InputError, match="this layer set was made for"):
        attention_shift(llama, TEXTS, chosen)
    with pytest.raises(TypeError, match="bias_of"):
        attention_shift(llama, TEXTS, LAYERS, bias_of=3)


def test_nothing_stays_behind_even_after_an_exception(lm):
    ids = torch.arange(3, 20)[None]
    batch = pad(tokenize(lm.tokenizer, [TEXT], PROMPT, 256), [0], 0)
    raw_before = lm(ids)
    bridge_before = lm.bridge(batch.ids, attention_mask=batch.mask)

    def hooks():
        modules = [module for tree in lm.trees for module in lm.decoder(tree).modules()]
        of_torch = [(len(each._forward_pre_hooks), len(each._forward_hooks)) for each in modules]
        of_bridge = [len(point.fwd_hooks) for point in lm.bridge.hook_dict.values()]
        return of_torch, of_bridge

    hooks_before = hooks()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attention_shift(lm, TEXTS, LAYERS, prompt=PROMPT, progress=stop)
    attention_patterns(lm, TEXT, LAYERS, prompt=PROMPT)
    assert torch.equal(lm(ids), raw_before)
    assert torch.equal(lm.bridge(batch.ids, attention_mask=batch.mask), bridge_before)
    assert hooks() == hooks_before


def test_one_token_has_one_weight_to_lose(llama):
    """The only token is the final one: its own score twice, so beta = sigmoid(b)."""
    shift = attention_shift(llama, ["x"], LAYERS, BIAS, prompt="raw", bins=1)
    expected = 1 / (1 + np.exp(-np.array(BIAS)))
    np.testing.assert_allclose(
        shift.arrays["beta.local.mean"][..., 0], np.tile(expected[:, None], 4), atol=1e-6
    )
    np.testing.assert_allclose(
        shift.arrays["sink.local.mean"], shift.arrays["beta.local.mean"], atol=1e-6
    )
    assert (shift.arrays["context.before.mean"] == 1).all()
    assert np.isnan(shift.ends()[1]).all()
    assert shift.ends()[2] == 1
    assert np.isnan(shift.arrays["final.before.mean"]).all()
    assert shift.arrays["final.before.n"].tolist() == [0]


def test_a_text_without_tokens_does_not_count_in_its_span(llama):
    shift = attention_shift(llama, ["", "some text"], LAYERS, prompt=PROMPT, span="text")
    assert np.isnan(shift.arrays["ends.local"][0]).all()
    assert np.isfinite(shift.arrays["ends.local"][1]).all()
    assert shift.ends()[2] == 1
    assert shift.arrays["beta.local.n"].sum() == len("some text")


def test_bad_requests_say_what_is_wrong(llama):
    for words, layers, options in [
        ("no layers to re-route", (), {}),
        ("outside", (4,), {}),
        ("repeat", (1, 1), {}),
        ("`bins` is 0; it must be at least 1", (1,), {"bins": 0}),
        ("span", (1,), {"span": "all"}),
        ("2 biases for 1", (1,), {"bias": (1, 2)}),
    ]:
        with pytest.raises(InputError, match=words):
            attention_shift(llama, TEXTS, layers, **options)
    hf = tf.BloomForCausalLM(tf.BloomConfig(vocab_size=300, hidden_size=16, n_layer=2, n_head=2))
    with pytest.raises(InputError, match="not exact on BloomForCausalLM"):
        attention_shift(LanguageModel.wrap(hf, byte_tokenizer()), TEXTS, (1,))


def test_a_sink_takes_its_weight():
    """Against what the softmax of the model itself gives."""
    lm = family("gpt_oss")
    layers = lm.info.layers_to_reroute()
    patterns = attention_patterns(lm, TEXT, layers)
    ids = torch.tensor([tokenize(lm.tokenizer, [TEXT], DEFAULT_DOCUMENT, 200)[0].ids])
    seen = {}
    taps = [
        (f"blocks.{layer}.attn.hook_pattern", lambda p, hook: seen.__setitem__(hook.name, p[0]))
        for layer in layers
    ]
    with torch.no_grad(), reroute(lm, layers), lm.bridge.hooks(fwd_hooks=taps):
        lm.bridge(ids)
    for row, layer in enumerate(layers):
        weights = seen[f"blocks.{layer}.attn.hook_pattern"].numpy()
        assert weights.sum(-1).min() < 0.9
        np.testing.assert_allclose(patterns.arrays["after"][row], weights, atol=1e-6)
        before = patterns.arrays["before"][row]
        beta = patterns.arrays["beta"][row]
        if row == 0:  # its inputs are those of the plain pass
            np.testing.assert_allclose(before * (1 - beta)[..., None], weights[..., 1:], atol=1e-6)
            np.testing.assert_allclose(beta, weights[..., 0], atol=1e-6)


def test_broken_weights_are_refused():
    lm = tiny("llama")
    lm.hf.model.layers[1].self_attn.q_proj.weight[:] = math.nan
    for call in (
        lambda: attention_shift(lm, TEXTS, (1,)),
        lambda: attention_patterns(lm, TEXT, (1,)),
    ):
        with pytest.raises(InputError, match=r"NaN or infinity in .* layer 1"):
            call()
