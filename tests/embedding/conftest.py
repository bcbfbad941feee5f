"""A small model, an encoder on it, and a file of texts."""

import pytest
from embedding_cases import DUPLICATED, LAYERS, write_jsonl

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.sentence_transformer import as_sentence_transformer


@pytest.fixture(scope="session")
def lm(zoo):
    return zoo("llama")


@pytest.fixture(scope="session")
def encoder(lm):
    return Encoder(lm, layers=LAYERS)


@pytest.fixture(scope="session")
def sbert(encoder):
    return as_sentence_transformer(encoder)


@pytest.fixture
def rows(tmp_path):
    numbered = enumerate(DUPLICATED)
    return write_jsonl(
        tmp_path / "rows.jsonl", [{"id": f"doc-{i}", "text": text} for i, text in numbered]
    )
