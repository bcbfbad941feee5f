"""Every method on every architecture, and each derived again from raw transformers, one text at a time."""

import copy
import functools
import gc
import json
import random
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
import transformers as tf
from conftest import CONFIGS, SHAPE, TEXTS, byte_tokenizer, tiny
from test_reroute import brute_force, output_of, visible, window_of

from kvlens import Encoder, InputError, LanguageModel
from kvlens.methods.base import Method, final_hidden, get_method, methods
from kvlens.texts.prompts import PROMPTS, from_template
from kvlens.texts.tokens import pad

ARCHITECTURES = sorted(CONFIGS)
NAMES = (
    "aligned_wva",
    "echo",
    "kv_embedding",
    "last_token",
    "mean",
    "prompt_eol",
    "token_prepending",
    "value_aggregation",
)
NEEDED = {"kv_embedding": {"layers": (1, 2)}}
SOME = [*TEXTS, "", 'braces {text} {first} "quotes" <eos>']


@functools.cache
def model(name: str) -> LanguageModel:
    return tiny(name)


def build(name: str, lm: LanguageModel, **settings) -> Method:
    return get_method(name, **{**NEEDED.get(name, {}), **settings}).for_model(lm)


def batch_of(method, lm, texts, prompt=None, side="right", limit=256):
    return pad(
        method.tokenize(lm, texts, prompt or method.document, limit), range(len(texts)), 0, side
    )


def embed(method, lm, texts, prompt=None, side="right"):
    with torch.no_grad():
        return method.embed(lm, batch_of(method, lm, texts, prompt, side))


def ids_of(lm, text):
    """Bytes as tokens: also what looks like a special token, and the tokenizer's BOS for nothing."""
    return lm.tokenizer(text, split_special_tokens=True)["input_ids"] or [lm.tokenizer.bos_token_id]


def raw(lm, text):
    """Final hidden states ``[seq_len, d]`` of one text."""
    with torch.no_grad():
        return lm.base(torch.tensor([ids_of(lm, text)])).last_hidden_state[0]


def close(found, expected):
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


# --- the matrix ---


def test_the_matrix_runs_every_method():
    """The files of the folder, whatever other tests have defined."""
    assert {name for name, cls in methods().items() if cls.__module__.startswith("kvlens.")} == set(
        NAMES
    )
    assert all(methods()[name].source for name in NAMES)


class Stop(Exception):
    pass


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_on_every_architecture(name, architecture):
    lm = model(architecture)
    method, ids = build(name, lm), torch.arange(3, 40)[None]
    logits, weights = lm(ids), copy.deepcopy(lm.hf.state_dict())

    torch.manual_seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    many = embed(method, lm, SOME)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]

    info = lm.info
    width = info.n_kv_heads * info.d_head if name == "value_aggregation" else info.d_model
    assert many.shape == (len(SOME), width)
    assert torch.isfinite(many).all()
    if (name, architecture) != (
        "token_prepending",
        "mistral",
    ):  # three windows of 7 do not reach past the prompt
        assert torch.pdist(many).min() > 1e-3  # texts differ, so vectors do
    torch.manual_seed(2)
    assert torch.equal(embed(method, lm, SOME), many)
    close(many, [embed(method, lm, [text])[0] for text in SOME])
    torch.testing.assert_close(embed(method, lm, SOME, side="left"), many, rtol=1e-4, atol=1e-4)

    def stop(module, args):
        raise Stop

    handle = lm.blocks[1].register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        embed(method, lm, SOME)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.hf.modules())
    assert torch.equal(lm(ids), logits)
    assert all(torch.equal(weights[key], value) for key, value in lm.hf.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_plain_values_that_build_the_method_again(name):
    lm = model("llama")
    method = build(name, lm)
    values = json.loads(json.dumps(method.settings()))
    assert list(values) == [field.name for field in fields(method)]
    assert values.pop("query") == method.query.model_dump()
    assert values.pop("document") == method.document.model_dump()
    again = get_method(
        name, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )
    assert again.for_model(lm) == method


# --- each one again, independently ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_single_pass_baselines(architecture):
    lm = model(architecture)
    close(embed(build("last_token", lm), lm, SOME), [raw(lm, text)[-1] for text in SOME])
    close(embed(build("mean", lm), lm, SOME), [raw(lm, text).mean(0) for text in SOME])
    asked = [raw(lm, f'This sentence : "{text}" means in one word:"')[-1] for text in SOME]
    close(embed(build("prompt_eol", lm), lm, SOME), asked)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kv_embedding_is_hybrid_pooling_of_the_brute_force_states(architecture):
    lm, layers, bias = model(architecture), (0, 2), 1.0
    for side, position in (("right", "keep"), ("left", "none")):
        method = build("kv_embedding", lm, layers=layers, bias=bias, position=position)
        for word in ("Context", "Query"):
            expected = []
            for text in SOME:
                row = torch.tensor(ids_of(lm, f"{word}: {text} Compress the {word} in one word:"))
                hidden, _ = brute_force(architecture, row, dict.fromkeys(layers, bias), position)
                expected.append(
                    torch.nn.functional.normalize((hidden[-1] + hidden.mean(0)) / 2, dim=0)
                )
            prompt = PROMPTS["kv-document" if word == "Context" else "kv-query"]
            close(embed(method, lm, SOME, prompt, side), expected)


def test_kv_embedding_with_no_layers_is_the_plain_prompted_model():
    lm = model("qwen3")
    method = build("kv_embedding", lm, layers=(), pooling="last")
    prompt = PROMPTS["kv-document"]
    close(embed(method, lm, SOME, prompt), [raw(lm, prompt.render(text))[-1] for text in SOME])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_echo_is_the_mean_over_the_second_copy(architecture):
    lm = model(architecture)
    method, texts = build("echo", lm), [text for text in SOME if text]
    for prompt in (method.query, method.document):
        expected = []
        for text in texts:
            written = f"Rewrite the sentence: {text}, rewritten sentence: {text}"
            hidden = raw(lm, written)
            assert len(hidden) == len(written)
            expected.append(hidden[-len(text) :].mean(0))
        close(embed(method, lm, texts, prompt), expected)


@pytest.mark.parametrize("limit", [60, 61, 256])
def test_echo_cuts_both_copies_alike(limit):
    lm, text = model("llama"), "0123456789" * 50
    method = build("echo", lm)
    (one,) = method.tokenize(lm, [text], method.document, limit)
    start, end = one.span
    frame = len("Rewrite the sentence: , rewritten sentence: ")
    kept = (limit - frame) // 2
    assert one.truncated
    assert (end - start, len(one.ids)) == (kept, frame + 2 * kept)
    assert list(one.ids) == ids_of(
        lm, f"Rewrite the sentence: {text[:kept]}, rewritten sentence: {text[:kept]}"
    )
    assert not method.tokenize(lm, ["short"], method.document, limit)[0].truncated
    with pytest.raises(InputError, match="too many for the limit"):
        method.tokenize(lm, [text], method.document, limit, strict=True)


@functools.cache
def eager(architecture):
    lm = tiny(architecture)
    lm.hf.set_attn_implementation("eager")
    return lm


def values_and_patterns(architecture, text):
    """Raw transformers' own cache and attention weights: per layer ``[n_kv_heads, T, d]`` and ``[n_heads, T, T]``."""
    lm, cache = eager(architecture), tf.DynamicCache()
    with torch.no_grad():
        ids = torch.tensor([ids_of(lm, text)])
        out = lm.base(ids, past_key_values=cache, use_cache=True, output_attentions=True)
    return [layer.values[0] for layer in cache.layers], [pattern[0] for pattern in out.attentions]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_value_aggregation_from_the_cache(architecture):
    lm = model(architecture)
    for depth, layers in (((0.5, 1.0), (2, 3)), ((0.25, 0.75), (1, 2)), ((0.0, 0.0), (0,))):
        expected = []
        for text in SOME:
            values = values_and_patterns(architecture, text)[0]
            flat = torch.stack([values[layer].transpose(0, 1).flatten(1) for layer in layers])
            expected.append(flat.mean(dim=(0, 1)))
        close(embed(build("value_aggregation", lm, depth=depth), lm, SOME), expected)
    assert build("value_aggregation", lm).depth == (0.5, 1.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_aligned_wva_from_patterns_values_and_the_output_matrix(architecture):
    lm = model(architecture)
    for depth, layers in (((0.5, 1.0), (2, 3)), ((0.25, 0.75), (1, 2))):
        expected = []
        for text in SOME:
            values, patterns = values_and_patterns(
                architecture, f'This sentence : "{text}" means in one word:"'
            )
            outputs = []
            for layer in layers:
                n_groups = len(patterns[layer]) // len(values[layer])
                heads = values[layer].repeat_interleave(n_groups, dim=0)
                mixed = torch.einsum("hj,hjd->hd", patterns[layer][:, -1], heads).flatten()
                project = output_of(lm.attention_modules(layer)[0])
                weight = (
                    project.weight.T if isinstance(project, torch.nn.Linear) else project.weight
                )
                bias = 0 if project.bias is None else project.bias
                outputs.append(mixed @ weight + bias)
            expected.append(torch.stack(outputs).mean(0))
        close(embed(build("aligned_wva", lm, depth=depth), lm, SOME), expected)


def loop_with_placeholder(architecture, text, start, leave, output):
    """Token Prepending as a loop over the decoder blocks; the last token's state after `output` blocks."""
    lm = model(architecture)
    base, config, blocks = lm.base, lm.base.config, lm.blocks
    before, after = ids_of(lm, "This sentence :"), ids_of(lm, f' "{text}" means in one word:"')
    table, place, length = base.get_input_embeddings(), len(before), len(before) + 1 + len(after)
    average = table.weight.mean(0) * (config.hidden_size**0.5 if "gemma" in architecture else 1)
    hidden = torch.cat([table(torch.tensor(before)), average[None], table(torch.tensor(after))])[
        None
    ]
    positions = torch.arange(length)[None]
    if architecture == "gpt2":
        hidden = hidden + base.wpe(positions)
    for layer in range(output):
        extra = {}
        if hasattr(base, "rotary_emb"):
            kind = [config.layer_types[layer]] if architecture == "gemma3" else []
            extra["position_embeddings"] = base.rotary_emb(hidden, positions, *kind)
        mask = torch.zeros(length, length).masked_fill(
            ~visible(length, window_of(config, layer)), -1e30
        )
        if start <= layer < leave:
            hidden = hidden.clone()
            hidden[0, place] = hidden[0, -1]
        hidden = blocks[layer](hidden, attention_mask=mask[None, None], **extra)
    return hidden[0, -1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_prepending_is_a_plain_loop_over_blocks(architecture):
    lm = model(architecture)
    ended = [text if text.endswith((".", '"', "'", "?")) else f"{text}." for text in SOME]
    for settings in (
        {},
        {"start": 1, "exit": 4, "output": 4},
        {"start": 2, "exit": 3, "output": 2},
    ):
        method = build("token_prepending", lm, **settings)
        where = (method.start, method.exit, method.output)
        assert where == tuple(settings.values() or (1, 2, 3))
        with torch.no_grad():
            expected = [loop_with_placeholder(architecture, text, *where) for text in ended]
        close(embed(method, lm, SOME), expected)


def test_token_prepending_text_preparation_and_placeholder():
    lm = model("llama")
    method = build("token_prepending", lm)
    texts = ["a", "a.", "a?", 'a"', "a'", "a!", ""]
    for text, one in zip(texts, method.tokenize(lm, texts, method.document, 256), strict=True):
        ended = text if text and text[-1] in ".?\"'" else text + "."
        ids = list(one.ids)
        assert ids.pop(len("This sentence :")) == -1
        assert ids == ids_of(lm, f'This sentence : "{ended}" means in one word:"')
        assert "".join(lm.tokenizer.decode(one.ids[slice(*one.span)])) == ended
    (long,) = method.tokenize(lm, ["word " * 100], method.document, 64)
    assert (len(long.ids), long.truncated) == (64, True)


def deep(n_layers):
    config = tf.LlamaConfig(
        **{**SHAPE, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": n_layers}
    )
    return LanguageModel.wrap(tf.LlamaForCausalLM(config), byte_tokenizer(), f"deep-{n_layers}")


def test_published_settings_scale_with_depth():
    found = {}
    for n_layers in (2, 12, 18, 30, 32):
        method = get_method("token_prepending").for_model(deep(n_layers))
        found[n_layers] = (method.start, method.exit, method.output)
    assert found == {2: (1, 2, 2), 12: (1, 3, 10), 18: (1, 4, 15), 30: (1, 7, 25), 32: (1, 7, 27)}
    with pytest.raises(InputError, match="needs 1 <= start < exit <= 1"):
        get_method("token_prepending").for_model(deep(1))


# --- refusals and the registry ---


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nothing", {}, r"unknown method 'nothing': give one of aligned_wva, echo, kv_embedding"),
        ("mean", {"layers": [1]}, r"mean: .*'layers'; its settings are query, document, pooling"),
        (
            "mean",
            {"pooling": "max"},
            r"unknown pooling 'max': give one of last, mean, hybrid, text_mean",
        ),
        ("kv_embedding", {"layers": None}, r"kv_embedding needs layers"),
        ("kv_embedding", {"layers": (4,)}, r"layer 4 is outside tiny-llama"),
        ("kv_embedding", {"bias": (1.0,)}, r"1 biases for 2 layers"),
        ("kv_embedding", {"position": "first"}, r"unknown position coding 'first'"),
        ("token_prepending", {"start": 0}, r"needs 1 <= start < exit <= 4"),
        ("token_prepending", {"exit": 5}, r"needs 1 <= start < exit <= 4"),
        ("token_prepending", {"output": 5}, r"1 <= output <= 4"),
        ("value_aggregation", {"depth": (1.0, 1.0)}, r"depth"),
        ("value_aggregation", {"depth": (0.8, 0.2)}, r"depth"),
        ("aligned_wva", {"depth": (0.5, 1.5)}, r"depth"),
        ("aligned_wva", {"depth": (-1.0, 0.5)}, r"depth"),
    ],
)
def test_bad_requests_say_what_is_wrong(name, settings, message):
    with pytest.raises(InputError, match=message) as error:
        build(name, model("llama"), **settings)
    assert "\n" not in str(error.value)


def test_kv_embedding_never_embeds_without_its_layers():
    lm = model("llama")
    with pytest.raises(InputError, match="needs layers"):
        embed(get_method("kv_embedding"), lm, ["a"])


def test_a_new_method_is_found_and_serves_the_encoder():
    @dataclass(frozen=True)
    class FirstToken(Method):
        name = "first_token"
        source = "this test"
        power: int = 1

        def embed(self, lm, batch):
            return final_hidden(lm, batch)[:, 0] ** self.power

    @dataclass(frozen=True)
    class Again(FirstToken):
        name = "first_token_again"

    lm = model("llama")
    assert methods()["first_token"] is FirstToken
    assert methods()["first_token_again"] is Again
    encoder = Encoder(lm, "first_token", document=from_template("Say {text}"), power=2)
    np.testing.assert_allclose(
        encoder.encode("hello"), raw(lm, "Say hello")[0].numpy() ** 2, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InputError, match="its settings are query, document, pooling, power"):
        get_method("first_token", strength=2)
    del FirstToken, Again, encoder
    gc.collect()
    assert "first_token" not in methods()


def test_a_helper_class_without_a_name_is_no_method():
    class Shared(Method):
        pass

    class Louder(methods()["mean"]):
        pass

    assert Shared not in methods().values()
    assert Louder not in methods().values()
