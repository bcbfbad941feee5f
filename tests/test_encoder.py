"""Encoder: sentence-transformers' conventions, and vectors that equal a forward pass done by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TEXTS, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

import kvlens
from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.sentence_transformer import as_sentence_transformer
from kvlens.methods.base import get_method, methods
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS, Prompt
from kvlens.texts.texts import TextsInfo

LAYERS = (1, 2)
HOSTILE = [
    "{text}",
    "{} {0} {first} {{text}} %s $text",
    "<eos>",
    "<pad><bos>a<eos>",
    "Context: a Compress the Context in one word:",
    '" means in one word:"',
    "\\n\t'quoted' \"twice\"",
    " ",
    "é 漢字 🙂 \x00\x7f",
]


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


@pytest.fixture(scope="module")
def encoder(lm):
    return Encoder(lm, layers=LAYERS)


@pytest.fixture(scope="module")
def sbert(encoder):
    return as_sentence_transformer(encoder)


def layer_set(lm, layers=LAYERS, **settings):
    estimates = tuple(
        IDEstimate(layer=i, value=9.0 + i, stderr=0.1, n=100, dropped=0, warnings=())
        for i in range(lm.info.n_layers)
    )
    profile = IDProfile(
        format="kvlens.id-profile",
        version=1,
        model=lm.info,
        states="hidden",
        points="last",
        prompt=PROMPTS["kv-document-inner"],
        texts=TextsInfo(source="made up", n=100, sha256="0" * 64),
        estimates={"twonn": estimates},
        scales=(),
        versions={},
    )
    return kvlens.select(profile, "explicit", layers=layers, **settings)


def other(lm, **facts):
    """The same weights under another identity."""
    return replace(lm, info=lm.info.model_copy(update=facts))


def ids_of(text):
    """The byte tokenizer of conftest, by hand: no special token can come out of a text."""
    alphabet, names = sorted(pre_tokenizers.ByteLevel.alphabet()), bytes_to_unicode()
    return torch.tensor([[3 + alphabet.index(names[byte]) for byte in text.encode()]])


def by_hand(lm, rendered, pooling="hybrid", layers=LAYERS, bias=1.0, position="keep"):
    """One vector of one prompted text, without batches, masks, prompts or the tokenizer."""
    with kvlens.reroute(lm, layers, bias, position), torch.no_grad():
        states = lm.base(ids_of(rendered), use_cache=False).last_hidden_state[0].double().numpy()
    vector = {
        "last": states[-1],
        "mean": states.mean(0),
        "hybrid": (states[-1] + states.mean(0)) / 2,
    }[pooling]
    return vector / np.linalg.norm(vector) if pooling == "hybrid" else vector


def test_one_string_or_a_list(encoder):
    one, many = encoder.encode(TEXTS[0]), encoder.encode(TEXTS)
    assert isinstance(one, np.ndarray)
    assert (one.shape, one.dtype) == ((32,), np.float32)
    assert (many.shape, many.dtype) == ((len(TEXTS), 32), np.float32)
    assert encoder.encode(TEXTS[:1]).shape == (1, 32)
    assert encoder.get_embedding_dimension() == 32
    np.testing.assert_allclose(many[0], one, atol=1e-6)
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


@pytest.mark.parametrize("name", sorted(methods()))
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
    both = raw.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    np.testing.assert_allclose(
        both, many[:, :5] / np.linalg.norm(many[:, :5], axis=1, keepdims=True), atol=1e-6
    )


def test_prompts(encoder):
    rendered = {
        "query": ('Query: "', '" Compress the Query in one word:"'),
        "document": ('Context: "', '" Compress the Context in one word:"'),
        "kv-document": ("Context: ", " Compress the Context in one word:"),
        "prompt-eol": ('This sentence : "', '" means in one word:"'),
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
    with pytest.raises(InputError, match="unknown prompt_name 'nope'"):
        encoder.encode("a", prompt_name="nope")
    with pytest.raises(InputError, match="exactly one"):
        encoder.encode("a", prompt="{text} {text}")


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_plain_text(encoder, text):
    truth = by_hand(encoder.lm, f'Context: "{text}" Compress the Context in one word:"')
    np.testing.assert_allclose(encoder.encode(text), truth, atol=1e-6)
    eol = Encoder(encoder.lm, "prompt_eol")
    truth = by_hand(encoder.lm, f'This sentence : "{text}" means in one word:"', "last", layers=())
    np.testing.assert_allclose(eol.encode_query(text), truth, atol=1e-5)
    np.testing.assert_allclose(
        Encoder(encoder.lm, "mean").encode(text), by_hand(encoder.lm, text, "mean", ()), atol=1e-5
    )


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
    encoder, seen = Encoder(lm, "mean", batch_tokens=64), []
    handle = lm.base.register_forward_pre_hook(
        lambda module, args: seen.append(tuple(args[0].shape))
    )
    try:
        encoder.encode(["ab" * i for i in range(1, 40)])
        assert (
            max(rows * width for rows, width in seen if rows > 1)
            <= 64
            < max(width for _, width in seen)
        )
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
        (None, "not one NoneType"),
        (5, "not one int"),
        (b"bytes", "not one bytes"),
        ({"a": 1}, "not one dict"),
        (["a", None], r"texts\[1\] is None \(NoneType\), not a string"),
        ([b"x"], r"texts\[0\] is b'x' \(bytes\), not a string"),
        (["a", "b", 1.5], r"texts\[2\] is 1.5"),
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


def test_similarity_is_the_cosine(encoder):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    cosine = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    for left, right in (
        (a, b),
        (torch.from_numpy(a), b),
        (list(torch.from_numpy(a)), torch.from_numpy(b)),
    ):
        found = encoder.similarity(left, right)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found, cosine, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(a[0], b), cosine[:1], atol=1e-6)
    np.testing.assert_allclose(
        encoder.similarity_pairwise(a[:3], b), np.diag(cosine[:3]), atol=1e-6
    )
    assert not encoder.similarity(np.zeros(6), b).isnan().any()


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


def test_layers_from_a_set_a_file_and_a_list_agree(lm, encoder, tmp_path):
    chosen = layer_set(lm)
    chosen.save(tmp_path / "layers.json")
    expected = encoder.encode(TEXTS)
    assert np.abs(expected - Encoder(lm, layers=()).encode(TEXTS)).max() > 1e-3
    for layers in (
        chosen,
        tmp_path / "layers.json",
        str(tmp_path / "layers.json"),
        [1, 2],
        np.array([1, 2]),
    ):
        found = Encoder(lm, layers=layers)
        np.testing.assert_array_equal(found.encode(TEXTS), expected)
        assert found.signature == encoder.signature


def test_settings_of_the_layer_set_are_used_unless_given(lm):
    query = Prompt(name="q", prefix="Ask ", suffix="?")
    document = Prompt(name="d", prefix="Tell ", suffix=".")
    told = {"bias": (2.0, -1.0), "position": "origin", "pooling": "last"}
    encoder = Encoder(lm, layers=layer_set(lm, **told, query=query, document=document))
    for vector, rendered in (
        (encoder.encode_query("me"), "Ask me?"),
        (encoder.encode_document("me"), "Tell me."),
    ):
        truth = by_hand(lm, rendered, "last", bias=(2.0, -1.0), position="origin")
        np.testing.assert_allclose(vector, truth, atol=1e-5)
        assert np.abs(truth - by_hand(lm, rendered, "last")).max() > 1e-3
    plainer = Encoder(
        lm,
        layers=layer_set(lm, **told, document=document),
        bias=0.0,
        position="keep",
        pooling="mean",
    )
    np.testing.assert_allclose(
        plainer.encode("me"), by_hand(lm, "Tell me.", "mean", bias=0.0), atol=1e-5
    )


@pytest.mark.parametrize("facts", [{"revision": "sha256:other"}, {"tokenizer": "other"}])
def test_layer_set_of_another_model_is_refused(lm, facts, tmp_path):
    chosen = layer_set(other(lm, name="their-model", **facts))
    chosen.save(tmp_path / "layers.json")
    for layers in (chosen, tmp_path / "layers.json"):
        with pytest.raises(
            InputError, match=r"made for their-model .* not for tiny-llama .*`force=True`"
        ) as error:
            Encoder(lm, layers=layers)
        assert "\n" not in str(error.value)
        forced = Encoder(lm, layers=layers, force=True)
        np.testing.assert_array_equal(forced.encode("a"), Encoder(lm, layers=LAYERS).encode("a"))
    # Device and dtype may differ.
    Encoder(lm, layers=layer_set(other(lm, device="cuda:0", dtype="bfloat16")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": [4]}, "layer 4 is outside tiny-llama, which has layers 0 to 3"),
        ({"layers": [-1]}, "layer -1 is outside"),
        ({"layers": [1, 1]}, "repeat"),
        ({"layers": [1.5]}, "block indices"),
        ({"layers": 3}, "block indices"),
        ({}, "needs layers"),
        ({"layers": [1], "bias": [1.0, 2.0]}, "2 biases for 1 layers"),
        ({"layers": [1], "position": "middle"}, "unknown position coding 'middle'"),
        ({"layers": [1], "pooling": "max"}, "unknown pooling 'max'"),
        ({"layers": "absent.json"}, "cannot read .*absent.json"),
        ({"method": get_method("mean"), "layers": [1]}, "layers go with the name of a method"),
    ],
)
def test_what_does_not_fit_together_is_refused(lm, options, says):
    with pytest.raises(InputError, match=says) as error:
        Encoder(lm, **options)
    assert "\n" not in str(error.value)


def test_layer_set_outside_a_smaller_model_is_refused_even_by_force(lm):
    deep = layer_set(other(lm, n_layers=9, revision="deep"), layers=(2, 8))
    with pytest.raises(InputError, match="layer 8 is outside tiny-llama"):
        Encoder(lm, layers=deep, force=True)


def test_signature_changes_with_what_matters_and_only_then(lm, encoder):
    renamed = Prompt(**{**PROMPTS["kv-query-inner"].model_dump(), "name": "mine", "source": "me"})
    same = [
        Encoder(lm, layers=np.array(LAYERS), bias=1, query=renamed, batch_tokens=77, strict=True),
        Encoder(lm, get_method("kv_embedding", layers=LAYERS), max_length=10_000),
        Encoder(other(lm, name="elsewhere/tiny", device="cuda:0"), layers=LAYERS),
    ]
    assert {found.signature for found in same} == {encoder.signature}
    assert [Encoder(tiny("llama"), layers=LAYERS).signature] == [encoder.signature]
    changed = [
        Encoder(lm, layers=(1, 3)),
        Encoder(lm, layers=(1, 2, 3)),
        Encoder(lm, layers=LAYERS, bias=2),
        Encoder(lm, layers=LAYERS, bias=(1, 2)),
        Encoder(lm, layers=LAYERS, position="origin"),
        Encoder(lm, layers=LAYERS, pooling="last"),
        Encoder(lm, layers=LAYERS, query=PROMPTS["kv-query"]),
        Encoder(lm, layers=LAYERS, document=PROMPTS["kv-document"]),
        Encoder(lm, layers=LAYERS, max_length=99),
        *[Encoder(lm, name) for name in methods() if name != "kv_embedding"],
        Encoder(lm, "token_prepending", start=2),
        Encoder(lm, "value_aggregation", depth=(0.0, 0.5)),
        Encoder(other(lm, revision="sha256:other"), layers=LAYERS),
        Encoder(other(lm, tokenizer="other"), layers=LAYERS),
        Encoder(other(lm, dtype="bfloat16"), layers=LAYERS),
    ]
    assert len({encoder.signature, *(found.signature for found in changed)}) == 1 + len(changed)


def test_sentence_transformer_equals_the_encoder(encoder, sbert):
    from sentence_transformers import SentenceTransformer

    assert isinstance(sbert, SentenceTransformer)
    texts = [*TEXTS, *HOSTILE, "", "x" * 1000]
    for ours, theirs in (
        (encoder.encode, sbert.encode),
        (encoder.encode_query, sbert.encode_query),
        (encoder.encode_document, sbert.encode_document),
    ):
        np.testing.assert_allclose(theirs(texts, batch_size=4), ours(texts), atol=2e-6)
        assert theirs("a cat").shape == (32,)
    for prompt in ("", "search: ", "a {text} b"):
        np.testing.assert_allclose(
            sbert.encode(TEXTS, prompt=prompt), encoder.encode(TEXTS, prompt=prompt), atol=2e-6
        )
    both = {"truncate_dim": 5, "normalize_embeddings": True}
    np.testing.assert_allclose(
        sbert.encode(TEXTS, **both), encoder.encode(TEXTS, **both), atol=2e-6
    )
    np.testing.assert_allclose(
        sbert.similarity(*[encoder.encode(TEXTS)] * 2),
        encoder.similarity(*[encoder.encode(TEXTS)] * 2),
        atol=1e-6,
    )
    assert sbert.get_embedding_dimension() == 32
    assert sbert.max_seq_length == 256


@pytest.mark.parametrize("name", ["echo", "token_prepending", "value_aggregation"])
def test_sentence_transformer_of_other_methods(lm, name):
    encoder = Encoder(lm, name)
    encoder.fit_post("zscore", TEXTS)
    np.testing.assert_allclose(
        as_sentence_transformer(encoder).encode(TEXTS), encoder.encode(TEXTS), atol=1e-4
    )


def test_tools_of_sentence_transformers_work(encoder, sbert):
    from sentence_transformers import util

    queries, corpus = ["a cat", "numbers"], [*TEXTS, "the dog", "another cat"]
    vectors = (
        sbert.encode_query(queries, convert_to_tensor=True),
        sbert.encode_document(corpus, convert_to_tensor=True),
    )
    found = util.semantic_search(*vectors, top_k=3)
    cosine = encoder.similarity(
        encoder.encode_query(queries), encoder.encode_document(corpus)
    ).numpy()
    for hits, row in zip(found, cosine, strict=True):
        assert [hit["corpus_id"] for hit in hits] == list(np.argsort(-row)[:3])
        np.testing.assert_allclose(
            [hit["score"] for hit in hits], np.sort(row)[::-1][:3], atol=1e-5
        )
    pairs = util.paraphrase_mining(sbert, corpus)
    cosine = encoder.similarity(encoder.encode(corpus), encoder.encode(corpus)).numpy()
    n = len(corpus)
    assert {(i, j) for _, i, j in pairs} == {(i, j) for i in range(n) for j in range(i + 1, n)}
    np.testing.assert_allclose(
        [score for score, _, _ in pairs], sorted(cosine[np.triu_indices(n, 1)])[::-1], atol=1e-5
    )
