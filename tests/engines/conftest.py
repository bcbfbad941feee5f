"""A small model on disk with a file of texts, and engines whose processes start quickly."""

import os

import pytest
from engine_cases import save_texts
from zoo import tiny

N_TEXTS = 600


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with a small model and a file of texts, some of them equal."""
    place = tmp_path_factory.mktemp("engines")
    lm = tiny("llama")
    lm.hf.save_pretrained(place / "llama")
    lm.tokenizer.save_pretrained(place / "llama")
    save_texts(place / "texts.jsonl", N_TEXTS)
    return place


@pytest.fixture(scope="session")
def quick_imports(tmp_path_factory):
    """Every process of Ray imports jsonschema, which builds a grammar for seconds where it can."""
    stubs = tmp_path_factory.mktemp("stubs")
    (stubs / "rfc3987_syntax.py").write_text("raise ImportError('not needed here')\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(stubs), before]))
    yield
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before
