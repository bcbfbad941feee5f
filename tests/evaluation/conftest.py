"""A small model, tasks in local folders, and mteb's encoder written by hand."""

import json

import numpy as np
import pytest

from kvlens.embedding.cache import EmbeddingCache

WORDS = [
    "river",
    "stone",
    "cloud",
    "engine",
    "paper",
    "winter",
    "garden",
    "signal",
    "copper",
    "violin",
    "harbour",
    "lantern",
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def lm(zoo):
    return zoo("llama")


@pytest.fixture(scope="session")
def saved_model(lm, tmp_path_factory):
    """The folder of the small model, which the terminal and mteb load by its name."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture(scope="session")
def make_data():
    """Write local folders in mteb's schema and in BEIR's."""
    return write_data


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


@pytest.fixture(scope="session")
def plain_encoder():
    """What mteb is given by hand: one text at a time, straight from the encoder."""
    mteb = pytest.importorskip("mteb")
    from mteb.models.abs_encoder import AbsEncoder

    class Plain(AbsEncoder):
        def __init__(self, encoder):
            self.encoder = encoder
            self.mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "plain/plain"})

        def encode(self, inputs, *, prompt_type=None, **options):
            is_query = str(getattr(prompt_type, "value", "")) == "query"
            name = "query" if is_query else "document"
            texts = [text for batch in inputs for text in batch["text"]]
            return np.stack([self.encoder.encode(text, prompt_name=name) for text in texts])

    return Plain


def write_data(root):
    rng = np.random.default_rng(0)
    pairs = [
        {"sentence1": sentence(rng), "sentence2": sentence(rng), "score": int(rng.integers(0, 6))}
        for _ in range(60)
    ]
    texts = [
        {"text": f"{WORDS[label]} {sentence(rng)}", "label": label}
        for label in range(4)
        for _ in range(15)
    ]
    documents = [
        {"_id": f"d{i}", "title": WORDS[i % len(WORDS)], "text": sentence(rng)} for i in range(50)
    ]
    queries = [{"_id": str(i), "text": sentence(rng)} for i in range(12)]
    files = {
        "STSBenchmark/test": pairs,
        "STSBenchmark/validation": pairs[:20],
        "Banking77Classification/train": texts[::2],
        "Banking77Classification/test": texts[1::2],
        "Cranfield/corpus": documents,
        "Cranfield/queries": queries,
    }
    for name, rows in files.items():
        path = root / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    judged = [f"{i}\td{3 * i + j}\t{j + 1}" for i in range(12) for j in range(3)]
    lines = ["query-id\tcorpus-id\tscore", *judged]
    (root / "Cranfield" / "qrels.tsv").write_text("\n".join(lines) + "\n")
    return root


def sentence(rng):
    return " ".join(rng.choice(WORDS, rng.integers(2, 7)))
