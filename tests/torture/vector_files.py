"""Damaged files of vectors, of stopped runs and of the cache: refused, or made good and right.

``PYTHONPATH=tests python -m torture.vector_files SEED N [FORMAT]`` tells all that breaks, and why.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torture.damage import Format, campaign_of, survey
from torture.own_files import OLD
from zoo import tiny

import kvlens
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.vectors import Vectors, load_vectors
from kvlens.embedding.writing import write_vectors
from kvlens.store.chunk_index import Arrays, Form
from kvlens.store.part import open_part

ENDINGS = (".npy", ".safetensors", ".parquet")
CHUNKS = 4
FACTS = {"format": "torture", "seed": 1, "names": ["a", "b"]}
FORMS = {"vectors": Form("float32", 2), "truncated": Form("int64", 1)}
TEXTS = ["a cat", "two cats", "é 漢字 🙂"]


@functools.cache
def old_vectors() -> Vectors:
    return load_vectors(OLD / "vectors.npy")


def copied(ending: str, folder: Path) -> Path:
    """A file of version 0.1.0, which carries no hash."""
    for file in OLD.glob(f"vectors{ending}*"):
        shutil.copy(file, folder)
    return folder / f"vectors{ending}"


def written(ending: str, folder: Path) -> Path:
    vectors = old_vectors()
    present = vectors.info.model_copy(update={"version": 2})
    path = folder / f"vectors{ending}"
    write_vectors(Vectors(vectors.vectors, vectors.ids, present), path)
    return path


def use_old(vectors: Vectors, scratch: Path) -> None:
    """It is of one piece, whatever the numbers are."""
    assert vectors.vectors.shape == (vectors.info.rows, vectors.info.dimension)
    assert vectors.vectors.dtype == np.float32
    assert np.isfinite(vectors.vectors).all()
    assert len(vectors.ids) == vectors.info.rows
    repr(vectors)


def use_vectors(vectors: Vectors, scratch: Path) -> None:
    """What is loaded is what was written, to the bit."""
    use_old(vectors, scratch)
    good = old_vectors()
    assert vectors.vectors.tobytes() == good.vectors.tobytes()
    assert vectors.ids == good.ids
    assert vectors.info.facts == good.info.facts


def chunk(number: int) -> Arrays:
    vectors = np.random.default_rng(number).normal(size=(2, 5)).astype(np.float32)
    return {"vectors": vectors, "truncated": np.array([number])}


def run(part: Path) -> list[Arrays]:
    """A run that goes on with what a stopped one has left."""
    with open_part(part, FACTS, FORMS) as index:
        return [
            index.chunk(f"{number:09d}.safetensors", 2, partial(chunk, number))
            for number in range(CHUNKS)
        ]


def stopped_run(folder: Path) -> Path:
    run(folder / "out.npy.part")
    return folder / "out.npy.part"


def resume(part: Path) -> list[Arrays]:
    with tempfile.TemporaryDirectory(dir=part.parent.parent) as folder:
        return run(Path(shutil.copytree(part, Path(folder) / part.name)))


def use_chunks(chunks: list[Arrays], scratch: Path) -> None:
    for number, arrays in enumerate(chunks):
        good = chunk(number)
        assert arrays.keys() == good.keys()
        assert all(arrays[name].tobytes() == good[name].tobytes() for name in good)


@functools.cache
def encoder() -> kvlens.Encoder:
    return kvlens.Encoder(tiny("llama"), "mean")


def cache(folder: Path) -> Path:
    for text in TEXTS:
        EmbeddingCache(folder / "cache").encode(encoder(), [text])
    return folder / "cache"


def read_cache(folder: Path) -> Any:
    with tempfile.TemporaryDirectory(dir=folder.parent.parent) as scratch:
        copy = shutil.copytree(folder, Path(scratch) / "cache")
        return EmbeddingCache(copy).encode(encoder(), TEXTS)


def use_cached(vectors: Any, scratch: Path) -> None:
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encoder().encode(TEXTS), atol=1e-5)


FORMATS = (
    *(Format(f"vectors{end} 1", partial(copied, end), load_vectors, use_old) for end in ENDINGS),
    *(Format(f"vectors{end}", partial(written, end), kvlens.open, use_vectors) for end in ENDINGS),
    Format("stopped run", stopped_run, resume, use_chunks),
    Format("cache", cache, read_cache, use_cached),
)


def campaign(seed: int, n: int, folder: Path) -> Counter[str]:
    """Try about `n` damaged files of all formats; see `campaign_of`."""
    return campaign_of(FORMATS, seed, n, folder)


if __name__ == "__main__":
    survey(FORMATS, *sys.argv[1:])
