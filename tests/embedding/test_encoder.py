"""Encoder: sentence-transformers' conventions; vectors equal a forward pass done by hand."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from embedding_cases import HOSTILE, LAYERS, by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import TEXTS, tiny

import kvlens
from kvlens.embedding.encoder import Encoder
from kvlens.methods.registry import self_contained
from kvlens.store.errors import InputError


def test_one_string_or_a_list(encoder):
    single = encoder.encode(TEXTS[0])
    many = encoder.encode(TEXTS)
    assert isinstance(single, np.ndarray)
    assert (single.shape, single.dtype) == ((32,), np.float32)
    assert (many.shape, many.dtype) == ((len(TEXTS), 32), np.float32)
    assert encoder.encode(TEXTS[:1]).shape == (1, 32)
    assert encoder.get_embedding_dimension() == 32
    np.testing.assert_allclose(many[0], single, atol=1e-6)
    for same in (
        tuple(TEXTS),
        np.array(TEXTS),
        (text for text in TEXTS),
        kvlens.Texts(tuple(TEXTS), "x"),
    ):
        np.testing.assert_array_equal(encoder.encode(same), many)


def test_tensors_and_lists_of_tensors(encoder):
    many = encoder.encode(TEXTS)
    tensor = encoder.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.is_inference()
    np.testing.assert_array_equal(tensor.numpy(), many)
    assert encoder.encode(TEXTS[0], convert_to_tensor=True).shape == (32,)
    listed = encoder.encode(TEXTS, convert_to_numpy=False)
    assert [type(vector) for vector in listed] == [torch.Tensor] * len(TEXTS)
    np.testing.assert_array_equal(np.stack([vector.numpy() for vector in listed]), many)
    assert encoder.encode(TEXTS[0], convert_to_numpy=False).shape == (32,)


@pytest.mark.parametrize("name", sorted(self_contained()))
def test_no_text_and_empty_text(lm, name):
    encoder = Encoder(lm, name, layers=LAYERS)
    vectors = encoder.encode(["", "a", ""])
    assert np.isfinite(vectors).all()
    assert np.abs(vectors).max(1).min() > 0
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert encoder.encode([]).shape == (0, vectors.shape[1])
    assert encoder.encode([], convert_to_tensor=True, truncate_dim=3).shape == (0, 3)
    assert encoder.encode([], convert_to_numpy=False) == []


def test_normalize_and_truncate(encoder):
    raw = Encoder(encoder.lm, "mean")
    many = raw.encode(TEXTS)
    assert np.abs(np.linalg.norm(many, axis=1) - 1).min() > 0.1
    np.testing.assert_array_equal(raw.encode(TEXTS, truncate_dim=5), many[:, :5])
    np.testing.assert_array_equal(raw.encode(TEXTS, truncate_dim=99), many)
    unit = raw.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    truth = many[:, :5] / np.linalg.norm(many[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(unit, truth, atol=1e-6)


def test_prompts(encoder):
    rendered = {
        "query": ('Query: "', '" Compress the Query in one word:"'),
        "document": ('Context: "', '" Compress the Context in one word:"'),
        "kv-document": ("Context: ", " Compress the Context in one word:"),
        "kv-document-quoted": ('"Context: ', '" Compress the Context in one word:'),
    }
    for name, (prefix, suffix) in rendered.items():
        truth = by_hand(encoder.lm, f"{prefix}a cat{suffix}")
        np.testing.assert_allclose(encoder.encode("a cat", prompt_name=name), truth, atol=1e-6)
        np.testing.assert_allclose(
            encoder.encode("a cat", prompt=f"{prefix}{{text}}{suffix}"), truth, atol=1e-6
        )
    assert np.array_equal(encoder.encode(TEXTS), encoder.encode_document(TEXTS))
    assert np.array_equal(encoder.encode_query(TEXTS), encoder.encode(TEXTS, prompt_name="query"))
    assert np.array_equal(encoder.encode_query("x", prompt_name="document"), encoder.encode("x"))
    truth = by_hand(encoder.lm, "search: a {cat")
    np.testing.assert_allclose(encoder.encode("a {cat", prompt="search: "), truth, atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode("a", prompt="", prompt_name="query"), by_hand(encoder.lm, "a"), atol=1e-6
    )
    with pytest.raises(InputError, match="unknown `prompt_name` 'nope'"):
        encoder.encode("a", prompt_name="nope")
    with pytest.raises(InputError, match="exactly one"):
        encoder.encode("a", prompt="{text} {text}")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_plain_text(encoder, text):
    truth = by_hand(encoder.lm, f'Context: "{text}" Compress the Context in one word:"')
    np.testing.assert_allclose(encoder.encode(text), truth, atol=1e-6)
    eol = Encoder(encoder.lm, "prompt_eol", prepare=False)
    truth = by_hand(encoder.lm, f'This sentence : "{text}" means in one word:"', "last", layers=())
    np.testing.assert_allclose(eol.encode_query(text), truth, atol=1e-5)
    np.testing.assert_allclose(
        Encoder(encoder.lm, "mean").encode(text), by_hand(encoder.lm, text, "mean", ()), atol=1e-5
    )


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=6),
    batch_size=st.integers(1, 7),
    order=st.randoms(),
)
def test_neither_batch_nor_order_changes_a_vector(encoder, texts, batch_size, order):
    alone = {text: encoder.encode(text) for text in texts}
    shuffled = order.sample(texts, len(texts))
    vectors = encoder.encode(shuffled, batch_size=batch_size)
    np.testing.assert_allclose(vectors, [alone[text] for text in shuffled], atol=2e-6)


def test_batches_keep_to_their_limits(lm):
    encoder = Encoder(lm, "mean", batch_tokens=64)
    seen = []
    handle = lm.base.register_forward_pre_hook(
        lambda module, args: seen.append(tuple(args[0].shape))
    )
    try:
        encoder.encode(["ab" * i for i in range(1, 40)])
        largest_batch = max(rows * width for rows, width in seen if rows > 1)
        longest_text = max(width for _, width in seen)
        assert largest_batch <= 64 < longest_text
        seen.clear()
        encoder.encode(["same length"[:9] + str(i) for i in range(7)], batch_size=3)
        assert sorted(rows for rows, _ in seen) == [1, 3, 3]
        seen.clear()
        twice = encoder.encode(["dup", "other", "dup"])
        assert sum(rows for rows, _ in seen) == 2
        np.testing.assert_array_equal(twice[0], twice[2])
    finally:
        handle.remove()


def test_a_long_text_is_cut_and_counted(encoder):
    prefix, suffix = 'Context: "', '" Compress the Context in one word:"'
    long = "0123456789" * 10_000
    kept = long[: 256 - len(prefix + suffix)]
    vectors = encoder.encode([long, "short", long])
    assert encoder.truncated == 1
    np.testing.assert_allclose(vectors[0], by_hand(encoder.lm, prefix + kept + suffix), atol=1e-6)
    encoder.encode("short")
    assert encoder.truncated == 0
    strict = Encoder(encoder.lm, layers=LAYERS, strict=True, max_length=60)
    assert strict.encode("short").shape == (32,)
    with pytest.raises(InputError, match="a text of 100000 characters"):
        strict.encode(["short", long])
    with pytest.raises(InputError, match="the prompt alone does not fit"):
        Encoder(encoder.lm, layers=LAYERS, max_length=20).encode("a")


def test_each_thread_is_told_how_many_of_its_texts_were_cut(encoder):
    both_have_embedded = threading.Barrier(2)

    def count(n):
        encoder.encode([f"{i} {'long ' * 300}" for i in range(n)])
        both_have_embedded.wait()
        return encoder.truncated

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(count, (1, 2))) == [1, 2]
    encoder.encode(f"{'long ' * 300}")
    assert encoder.truncated == 1


def test_unknown_keywords_are_refused(encoder):
    for call in (encoder.encode, encoder.encode_query, encoder.encode_document):
        with pytest.raises(TypeError, match="normalise"):
            call("a", normalise=True)
    with pytest.raises(
        InputError, match=r"mean: .*'bias'; its settings are query, document, pooling"
    ):
        Encoder(encoder.lm, "mean", bias=2.0)
    with pytest.raises(InputError, match="unknown method 'median': give one of"):
        Encoder(encoder.lm, "median")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (None, r"`inputs` is None \(NoneType\), not a list"),
        (5, r"`inputs` is 5 \(int\), not a list"),
        (b"bytes", r"`inputs` is b'bytes' \(bytes\), not a list"),
        ({"a": 1}, r"`inputs` is .* \(dict\), not a list"),
        (["a", None], r"`inputs`\[1\] is None \(NoneType\), not a string"),
        ([b"x"], r"`inputs`\[0\] is b'x' \(bytes\), not a string"),
        (["a", "b", 1.5], r"`inputs`\[2\] is 1.5"),
        (["\ud800"], "surrogate"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_no_text_is_refused(encoder, sbert, texts, says):
    with pytest.raises(InputError, match=says) as error:
        encoder.encode(texts)
    assert "\n" not in str(error.value)
    if isinstance(texts, list):
        with pytest.raises(InputError):
            sbert.encode(texts)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": -1}, {"truncate_dim": 0}, {"truncate_dim": -1}]
)
def test_sizes_below_one_are_refused(encoder, options):
    with pytest.raises(InputError, match="it must be at least 1"):
        encoder.encode("a", **options)


def test_progress_counts_every_distinct_text(encoder, capsys):
    seen = []
    encoder.encode(
        [*TEXTS, TEXTS[0]], batch_size=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (len(TEXTS), len(TEXTS))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert capsys.readouterr().err == ""
    encoder.encode(TEXTS, show_progress_bar=True)
    assert f"{len(TEXTS)}/{len(TEXTS)}" in capsys.readouterr().err
    encoder.encode(TEXTS)
    assert capsys.readouterr().err == ""


def test_nan_is_said_and_not_returned():
    lm = tiny("gpt2")
    with torch.no_grad():
        lm.blocks[3].mlp.c_proj.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinity in the embeddings in float32"):
        Encoder(lm, "mean").encode("a")
