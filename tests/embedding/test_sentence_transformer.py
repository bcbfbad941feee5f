"""An encoder as a SentenceTransformer: the same vectors, and the tools of that library."""

import numpy as np
import pytest
from embedding_cases import HOSTILE
from zoo import TEXTS

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.sentence_transformer import as_sentence_transformer


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
    options = {"truncate_dim": 5, "normalize_embeddings": True}
    np.testing.assert_allclose(
        sbert.encode(TEXTS, **options), encoder.encode(TEXTS, **options), atol=2e-6
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

    queries = ["a cat", "numbers"]
    corpus = [*TEXTS, "the dog", "another cat"]
    vectors = (
        sbert.encode_query(queries, convert_to_tensor=True),
        sbert.encode_document(corpus, convert_to_tensor=True),
    )
    results = util.semantic_search(*vectors, top_k=3)
    cosine = encoder.similarity(
        encoder.encode_query(queries), encoder.encode_document(corpus)
    ).numpy()
    for hits, row in zip(results, cosine, strict=True):
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
