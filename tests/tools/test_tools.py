"""A saved encoder in the tools that people have; `make test-tools` runs this in an environment.

The vectors that a tool gets are held against the encoder's own.
"""

import numpy as np
import pytest
from zoo import TEXTS

import kvlens
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.sentence_transformer import as_sentence_transformer

pytestmark = pytest.mark.tools

N_PASSAGES = 200


@pytest.fixture(scope="module")
def encoder(zoo):
    encoder = Encoder(zoo("llama"), layers=[1, 2])
    encoder.fit_post("zscore", TEXTS)
    return encoder


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools") / "my-encoder"
    as_sentence_transformer(encoder).save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def sbert(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, trust_remote_code=True)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_two_processes_give_the_same_vectors(sbert, encoder):
    texts = TEXTS * 4
    close(sbert.encode(texts, device=["cpu", "cpu"], chunk_size=5), encoder.encode(texts))


def test_semantic_search_and_paraphrases(sbert, encoder):
    from sentence_transformers import util

    query = sbert.encode_query(["a cat"], convert_to_tensor=True)
    (hits,) = util.semantic_search(query, sbert.encode_document(TEXTS, convert_to_tensor=True))
    cosines = encoder.similarity(encoder.encode_query(["a cat"]), encoder.encode_document(TEXTS))
    assert [hit["corpus_id"] for hit in hits] == list(np.argsort(-cosines[0].numpy()))
    pairs = util.paraphrase_mining(sbert, TEXTS, top_k=1)
    score, i, j = max(pairs)
    close(score, encoder.similarity(encoder.encode(TEXTS[i]), encoder.encode(TEXTS[j])).item())


def test_langchain(folder, encoder):
    langchain = pytest.importorskip("langchain_huggingface")
    embeddings = langchain.HuggingFaceEmbeddings(
        model_name=folder,
        model_kwargs={"trust_remote_code": True},
        query_encode_kwargs={"prompt_name": "query"},
    )
    close(embeddings.embed_documents(TEXTS), encoder.encode_document(TEXTS))
    close(embeddings.embed_query("a cat"), encoder.encode_query("a cat"))


def test_llama_index(folder, encoder):
    llama_index = pytest.importorskip("llama_index.embeddings.huggingface")
    embedding = llama_index.HuggingFaceEmbedding(folder, trust_remote_code=True, normalize=False)
    close(embedding.get_text_embedding_batch(TEXTS), encoder.encode_document(TEXTS))
    close(embedding.get_query_embedding("a cat"), encoder.encode_query("a cat"))


def test_chroma(folder, encoder):
    pytest.importorskip("chromadb")
    import chromadb
    from chromadb.utils import embedding_functions

    function = embedding_functions.SentenceTransformerEmbeddingFunction(
        model_name=folder, trust_remote_code=True
    )
    close(function(TEXTS), encoder.encode_document(TEXTS))
    space = {"hnsw": {"space": "cosine"}}
    collection = chromadb.EphemeralClient().create_collection(
        "texts", embedding_function=function, configuration=space
    )
    collection.add(ids=[str(i) for i in range(len(TEXTS))], documents=TEXTS)
    query = encoder.encode_query("a cat")
    found = collection.query(query_embeddings=[query.tolist()], n_results=len(TEXTS))
    cosines = encoder.similarity(query, encoder.encode_document(TEXTS))[0]
    close(found["distances"][0], 1 - np.sort(cosines.numpy())[::-1])


def test_bertopic(sbert, encoder):
    bertopic = pytest.importorskip("bertopic")
    texts = list(kvlens.calibration_texts(N_PASSAGES).items)
    model = bertopic.BERTopic(embedding_model=sbert, min_topic_size=5)
    topics, _ = model.fit_transform(texts)
    assert len(topics) == N_PASSAGES
    close(model.embedding_model.embed(texts[:3]), encoder.encode(texts[:3]))
