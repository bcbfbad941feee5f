"""Prompts and methods inside a model's chat template, saved and loaded again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from chat_models import REFUSING, TRIMMING, WITH_SYSTEM, chat_model, truth
from zoo import TEXTS

import kvlens
from kvlens import PROMPTS, Encoder, InputError, Prompt, chat
from kvlens.embedding.cache import EmbeddingCache
from kvlens.methods.registry import get_method, self_contained, takes_layers
from kvlens.methods.token_prepending import PLACEHOLDER
from kvlens.store.notices import Notice
from kvlens.texts.prompts import query_for


@pytest.fixture(scope="module")
def talker():
    return chat_model()


@pytest.fixture(scope="module")
def profile(talker):
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS * 12)]
    return kvlens.estimate(kvlens.record(talker, texts, chat(talker, system="Sum up.")))


def test_a_prompt_in_a_chat_says_so(talker):
    prompt = chat(talker, "kv-document", "Sum up.")
    assert prompt.name == "kv-document-chat"
    assert (prompt.prefix, prompt.suffix) == (PROMPTS["kv-document"].prefix, prompt.suffix)
    assert query_for(prompt) == chat(talker, "kv-query", "Sum up.")
    assert query_for(chat(talker, "{text}?")) == chat(talker, "kv-query-inner")
    assert chat(talker, prompt) == prompt  # its system line stays
    assert chat(talker, prompt, "Now this.") == chat(talker, "kv-document", "Now this.")


def test_what_is_saved_without_a_chat_is_as_before(talker):
    plain = PROMPTS["kv-document"]
    assert list(plain.model_dump()) == ["name", "prefix", "suffix", "source"]
    assert "chat" not in plain.model_dump_json()
    prompt = chat(talker, plain)
    assert Prompt(**json.loads(prompt.model_dump_json())) == prompt
    with pytest.raises(InputError, match="`chat` of a prompt"):
        Prompt(name="a", chat=5)


def test_a_prompt_that_the_template_would_change_is_refused():
    lm = chat_model(TRIMMING)
    chat(lm, "raw")
    chat(lm, " a {text} b".strip())
    with pytest.raises(InputError, match=r"changes the `prompt` custom.*white space"):
        chat(lm, "{text} ")
    with pytest.raises(InputError, match="leave out `system`"):
        chat(chat_model(REFUSING), system="Sum up.")
    with pytest.raises(InputError, match="has no chat template"):
        chat(chat_model(None))


def test_an_encoder_puts_both_prompts_into_the_chat(talker):
    encoder = Encoder(talker, layers=[1, 2], chat=True, system="Sum up.")
    for kind, name in (("query", "kv-query-inner"), ("document", "kv-document-inner")):
        (tokenized,) = encoder.tokenize(["a cat"], encoder.prompt_for(kind))
        message = PROMPTS[name].render("a cat")
        assert list(tokenized.ids) == truth(talker.tokenizer, message, "Sum up.")
    # Prompts that are named or written later go there too; a Prompt is taken as it is.
    assert encoder.prompt_for("raw") == chat(talker, "raw", "Sum up.")
    assert encoder.prompt_for(prompt="Say: ").chat == encoder.method.document.chat
    assert encoder.prompt_for(prompt=PROMPTS["raw"]).chat is None
    with pytest.raises(InputError, match=r"`system` .* `chat=True`"):
        Encoder(talker, "mean", system="Sum up.")


def test_every_method_works_in_a_chat(talker):
    for name in self_contained():
        needed = {"layers": (1, 2)} if takes_layers(name) else {}
        method = get_method(name, **needed).in_chat(talker).for_model(talker)
        if name == "echo":
            before, _, between = method.document.prefix.partition("{first}")
            message = f"{before}{TEXTS[1]}{between}{TEXTS[1]}"
        else:
            message = method.document.render(TEXTS[1]).removeprefix(method.document.chat.before)
            message = message.removesuffix(method.document.chat.after)
        (tokenized,) = method.tokenize(talker, [TEXTS[1]], method.document, 512)
        ids = [token for token in tokenized.ids if token != PLACEHOLDER]
        assert ids == truth(talker.tokenizer, message), name
        inside = tokenized.ids[slice(*tokenized.span)]
        assert talker.tokenizer.decode(inside) == TEXTS[1], name
        if name == "token_prepending":
            place = tokenized.ids.index(PLACEHOLDER)
            assert talker.tokenizer.decode(tokenized.ids[:place]).endswith("This sentence :")
        vectors = Encoder(talker, method).encode(TEXTS)
        assert np.isfinite(vectors).all(), name
        alone = [Encoder(talker, method).encode(text) for text in TEXTS]
        np.testing.assert_allclose(vectors, alone, atol=1e-4)


def test_the_vector_is_that_of_the_final_token_of_the_chat(talker):
    encoder = Encoder(talker, "last_token", chat=True)
    ids = torch.tensor([truth(talker.tokenizer, "a cat")])
    with torch.no_grad():
        expected = talker.base(ids).last_hidden_state[0, -1]
    np.testing.assert_allclose(encoder.encode("a cat"), expected, atol=1e-5)


def test_a_layer_set_brings_its_chat_along(talker, profile, tmp_path):
    layers = kvlens.select(profile)
    assert layers.prompts.document == chat(talker, system="Sum up.")
    assert layers.prompts.query == chat(talker, "kv-query-inner", "Sum up.")
    assert not [warning for warning in layers.warnings if "prompt" in warning]
    saved = layers.save(tmp_path / "layers.json")
    assert kvlens.open(saved) == layers
    loaded = Encoder(talker, layers=saved)
    asked = Encoder(talker, layers=list(layers.layers), chat=True, system="Sum up.")
    np.testing.assert_array_equal(loaded.encode(TEXTS), asked.encode(TEXTS))
    assert loaded.signature == asked.signature
    # A later template is noticed, and what was recorded is used.
    other = replace(talker, tokenizer=chat_model(TRIMMING).tokenizer)
    with pytest.warns(Notice, match="what the prompt recorded is used"):
        again = Encoder(other, layers=saved).encode(TEXTS)
    np.testing.assert_array_equal(again, loaded.encode(TEXTS))


def test_a_profile_of_raw_texts_in_a_chat_embeds_in_the_chat(talker, profile):
    raw = profile.model_copy(update={"prompt": chat(talker, "raw", "Sum up.")})
    assert kvlens.select(raw).prompts.document == chat(talker, system="Sum up.")


def test_signatures_and_caches_tell_chats_apart(talker, tmp_path):
    plain, framed, asked = (
        Encoder(talker, "mean"),
        Encoder(talker, "mean", chat=True),
        Encoder(talker, "mean", chat=True, system="Sum up."),
    )
    assert len({encoder.signature for encoder in (plain, framed, asked)}) == 3
    cache = EmbeddingCache(tmp_path)
    for encoder in (plain, framed, asked, plain):
        vectors = cache.encode(encoder, TEXTS)
        np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("side", ["left", "right"])
def test_recording_reads_the_final_token_of_the_chat(talker, side):
    trace = kvlens.record(talker, TEXTS, chat(talker, "raw"), padding_side=side)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([truth(talker.tokenizer, text)])
        with torch.no_grad():
            states = talker.hf(ids, output_hidden_states=True).hidden_states
        for layer in range(3):  # what transformers shows of the last one is normed
            found = trace.tensors["hidden"][row, layer]
            np.testing.assert_allclose(found, states[layer + 1][0, -1], atol=1e-4)


@pytest.mark.real
def test_real_model(smollm):
    prompt = chat(smollm, system="You sum up.")
    assert prompt.chat.before.startswith("<|im_start|>system\nYou sum up.<|im_end|>\n")
    default = chat(smollm)
    assert "You are a helpful AI assistant named SmolLM" in default.chat.before
    encoder = Encoder(smollm, "last_token", document=default)
    vector = encoder.encode("a cat")
    ids = torch.tensor([truth(smollm.tokenizer, PROMPTS["kv-document-inner"].render("a cat"))])
    with torch.no_grad():
        expected = smollm.base(ids).last_hidden_state[0, -1]
    np.testing.assert_allclose(vector, expected, atol=1e-3)


def test_the_template_s_system_line_is_recorded(talker):
    assert "You help." in WITH_SYSTEM
    assert "You help." in chat(talker).chat.before
