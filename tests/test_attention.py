"""The attention shift against patterns measured one layer at a time, and against plain numpy over single texts."""

import math

import numpy as np
import pytest
import torch
import transformers as tf
from conftest import SHAPE, TEXTS, byte_tokenizer, tiny

from kvlens import InputError, LanguageModel, Prompt
from kvlens.analysis.attention import (
    KINDS,
    NEIGHBOURS,
    AttentionPatterns,
    AttentionShift,
)
from kvlens.analysis.token_labels import readable_tokens
from kvlens.analysis.uptake import attention_patterns, attention_shift
from kvlens.rerouting.prefix import reroute
from kvlens.texts.tokens import pad, tokenize

LAYERS, BIAS = (0, 2), (0.5, 2.0)  # the last block, 3, is not re-routed
PROMPT = Prompt(name="test", prefix="In: ", suffix=" Out:")
TEXT = TEXTS[3]


def bridge_run(lm, text, layers, names, bias=BIAS, position="keep"):
    """What the bridge's own hooks show of one text: pattern [H, T, .] or hidden states [T, d_model], by name."""
    tokenized = tokenize(lm.tokenizer, [text], PROMPT, 256)
    batch, seen = pad(tokenized, [0], 0), {}
    hooks = [
        (name, lambda x, hook, name=name: seen.update({name: x[0].double().numpy()}))
        for name in names
    ]
    _ = lm.bridge
    with (
        torch.no_grad(),
        reroute(lm, layers, bias if layers else 1.0, position),
        lm.bridge.hooks(fwd_hooks=hooks),
    ):
        lm.bridge(batch.ids, attention_mask=batch.mask, return_type=None, use_cache=False)
    return seen, tokenized[0].span


def patterns_at(lm, text, layers, bias=BIAS, position="keep"):
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in LAYERS]
    return list(bridge_run(lm, text, layers, names, bias, position)[0].values())


@pytest.fixture(scope="module")
def llama():
    return tiny("llama")


@pytest.mark.parametrize("position", ["keep", "none"])
def test_patterns_are_those_measured_layer_by_layer(lm, position):
    found = attention_patterns(lm, TEXT, LAYERS, BIAS, position, PROMPT)
    before, after, beta = (found.arrays[name] for name in ("before", "after", "beta"))
    n = len(found.tokens)
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


def entropy(rows):
    return np.array(
        [-sum(x * math.log(x) for x in row if x > 0) for row in rows.reshape(-1, rows.shape[-1])]
    ).reshape(rows.shape[:-1])


def cosine(a, b):
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


def by_hand(lm, text):
    """Every quantity per token of one text: name -> [layers, heads or 1, T]; and the text's token span."""
    blocks = [*LAYERS, 3]
    hidden = [f"blocks.{i}.hook_resid_post" for i in blocks]
    before, after = (np.stack(patterns_at(lm, text, which)) for which in ([], LAYERS))
    alone = np.stack(
        [
            patterns_at(lm, text, [layer], b)[i]
            for i, (layer, b) in enumerate(zip(LAYERS, BIAS, strict=True))
        ]
    )
    (h, span), (changed, _) = (bridge_run(lm, text, which, hidden) for which in ([], LAYERS))
    h, changed = (np.stack([x[name] for name in hidden])[:, None] for x in (h, changed))
    n = before.shape[-1]
    regions = {
        "sink": [[j == 0 for j in range(n)]] * n,
        "neighbours": [[i - NEIGHBOURS <= j < i for j in range(n)] for i in range(n)],
        "prompt": [[not span[0] <= j < span[1] for j in range(n)]] * n,
    }
    found = {"beta.local": alone[..., 0], "beta.propagated": after[..., 0]}
    for kind, rows in (("before", before), ("local", alone), ("propagated", after)):
        found[f"entropy.{kind}"] = entropy(rows)
        found[f"context.{kind}"] = np.exp(entropy(rows))
        for name, inside in regions.items():
            mass = (before * inside).sum(-1)
            found[f"{name}.{kind}"] = (
                mass if kind == "before" else mass - (rows[..., 1:] * inside).sum(-1)
            )
    found["moved.relative"] = np.linalg.norm(changed - h, axis=-1) / np.linalg.norm(h, axis=-1)
    found["moved.cosine"] = cosine(h, changed)
    final = h[..., -1:, :]
    found["final.before"], found["final.after"] = (
        cosine(h, final),
        cosine(changed, changed[..., -1:, :]),
    )
    with np.errstate(invalid="ignore"):
        found["final.towards"] = cosine(changed - h, final - h)
    return found, span


@pytest.mark.parametrize("span", ["prompted", "text"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "neox"])
def test_summaries_are_those_of_numpy_over_single_texts(architecture, span):
    lm, bins = tiny(architecture), 4
    shift = attention_shift(lm, TEXTS, LAYERS, BIAS, prompt=PROMPT, bins=bins, span=span)
    gathered: dict[str, list[list[np.ndarray]]] = {}
    ends = {kind: [] for kind in KINDS}
    for text in TEXTS:
        found, (start, end) = by_hand(lm, text)
        n = found["beta.local"].shape[-1]
        start, end = (start, end) if span == "text" else (0, n)
        for name, values in found.items():
            slots = gathered.setdefault(name, [[] for _ in range(bins)])
            for i in range(start, end if not name.startswith("final") else min(end, n - 1)):
                slots[bins * (i - start) // (end - start)].append(values[..., i])
        for kind in KINDS:
            tenth, values = math.ceil((end - start) / 10), found[f"beta.{kind}"]
            ends[kind].append(
                [
                    values[..., start : start + tenth].mean(-1),
                    values[..., end - tenth : end].mean(-1),
                ]
            )
    assert {key.rsplit(".", 1)[0] for key in shift.arrays if key.endswith(".mean")} == set(gathered)
    for name, slots in gathered.items():
        assert shift.arrays[f"{name}.n"].tolist() == [len(slot) for slot in slots]
        for part, summary in (("mean", np.mean), ("std", np.std)):
            expected = np.stack([summary(slot, axis=0) for slot in slots], axis=-1)
            np.testing.assert_allclose(
                shift.arrays[f"{name}.{part}"], expected, rtol=2e-4, atol=2e-5, err_msg=name
            )
    for kind in KINDS:
        np.testing.assert_allclose(shift.arrays[f"ends.{kind}"], ends[kind], atol=2e-6)
        mean, std, n = shift.ends(kind)
        per_text = np.array(ends[kind]).mean(-1)
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
    one, other = (
        attention_shift(llama, TEXTS, *x, prompt=PROMPT)
        for x in ((LAYERS, BIAS), (LAYERS[::-1], BIAS[::-1]))
    )
    assert (one.layers, one.bias) == (other.layers, other.bias) == (LAYERS, BIAS)
    np.testing.assert_array_equal(one.arrays["beta.local.mean"], other.arrays["beta.local.mean"])


def test_nothing_stays_behind_even_after_an_exception(lm):
    ids, (batch,) = (
        torch.arange(3, 20)[None],
        [pad(tokenize(lm.tokenizer, [TEXT], PROMPT, 256), [0], 0)],
    )
    before = lm(ids), lm.bridge(batch.ids, attention_mask=batch.mask)

    def hooks():
        modules = [module for tree in lm.trees() for module in tree.modules()]
        own = [len(point.fwd_hooks) for point in lm.bridge.hook_dict.values()]
        return [
            (len(module._forward_pre_hooks), len(module._forward_hooks)) for module in modules
        ], own

    found = hooks()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attention_shift(lm, TEXTS, LAYERS, prompt=PROMPT, progress=stop)
    attention_patterns(lm, TEXT, LAYERS, prompt=PROMPT)
    assert torch.equal(lm(ids), before[0])
    assert torch.equal(lm.bridge(batch.ids, attention_mask=batch.mask), before[1])
    assert hooks() == found


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


def test_saved_results_are_read_back_equal_and_others_refused(tmp_path, llama):
    shift = attention_shift(llama, TEXTS, LAYERS, (-math.inf, 2), prompt=PROMPT)
    patterns = attention_patterns(llama, "é <script>", LAYERS, prompt=PROMPT)
    for result in (shift, patterns):
        again = type(result).load(result.save(tmp_path / result.format))
        assert {**vars(again), "arrays": None} == {**vars(result), "arrays": None}
        assert again.arrays.keys() == result.arrays.keys()
        for name, values in result.arrays.items():
            np.testing.assert_array_equal(again.arrays[name], values)
    with pytest.raises(
        InputError,
        match=r"is not an attention shift: it lacks \"format\": \"kvlens\.attention-shift\"",
    ):
        AttentionShift.load(tmp_path / AttentionPatterns.format)
    (tmp_path / "no").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no is not a valid set of attention patterns"):
        AttentionPatterns.load(tmp_path / "no")
    with pytest.raises(InputError, match=r"cannot read the set of attention patterns .*absent"):
        AttentionPatterns.load(tmp_path / "absent")


def test_bad_requests_say_what_is_wrong(llama):
    for words, layers, options in [
        ("no layers to re-route", (), {}),
        ("outside", (4,), {}),
        ("repeat", (1, 1), {}),
        ("at least 1 bin", (1,), {"bins": 0}),
        ("span", (1,), {"span": "all"}),
        ("2 biases for 1", (1,), {"bias": (1, 2)}),
    ]:
        with pytest.raises(InputError, match=words):
            attention_shift(llama, TEXTS, layers, **options)
    shape = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
    hf = tf.AutoModelForCausalLM.from_config(tf.CohereConfig(**shape))
    with pytest.raises(InputError, match="not proven on CohereForCausalLM"):
        attention_shift(LanguageModel.wrap(hf, byte_tokenizer()), TEXTS, (1,))


def test_broken_weights_are_refused():
    lm = tiny("llama")
    lm.hf.model.layers[1].self_attn.q_proj.weight[:] = math.nan
    for call in (
        lambda: attention_shift(lm, TEXTS, (1,)),
        lambda: attention_patterns(lm, TEXT, (1,)),
    ):
        with pytest.raises(InputError, match=r"NaN or infinity in .* layer 1"):
            call()


def test_tokens_read_as_text():
    tokenizer = byte_tokenizer()
    words = readable_tokens(tokenizer, tokenizer("a €!").input_ids)
    assert words == ("a", " ", "…", "…", "€", "!")
