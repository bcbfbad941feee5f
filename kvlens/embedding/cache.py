"""Cache: embeddings on disk, one per distinct text and full configuration.

A stopped run continues where it was, and a second one reads what the first has computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file

from kvlens.embedding.chunks import Arrays, Chunk, longest_first, stored_chunks
from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions

CHUNK = 1024
DIGEST_BYTES = 32  # of a SHA-256


class EmbeddingCache:
    """Vectors before post-processing, for one encoder after another.

    What decides a vector names its folder: the encoder's signature, the prompt, and the versions of
    what computed it; the text's hash names its row.

    Attributes:
        folder: where they are kept.
    """

    def __init__(self, folder: str | Path | None = None):
        """A cache in `folder`; default ``embeddings`` in the user's cache (see `cache_dir`)."""
        self.folder = Path(folder) if folder else cache_dir() / "embeddings"

    def encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        kind: Literal["query", "document"] = "document",
        progress: Progress | None = None,
    ) -> Float[np.ndarray, "n d"]:
        """Raw vectors of texts; only what is missing is computed.

        Args:
            encoder: what makes them.
            texts: in any order, with repetitions.
            kind: which of the encoder's prompts.
            progress: called with (done, missing) distinct texts.

        Returns:
            float32 ``[len(texts), d]``, in the order of `texts`.

        Raises:
            InputError: for a damaged cache file, and as `Encoder.raw`.
        """
        place = self._place(encoder, kind)
        vector_of = _read(place)
        missing = longest_first(text for text in texts if digest(text) not in vector_of)
        chunks = stored_chunks(
            missing,
            CHUNK,
            partial(_file, place),
            partial(_compute, encoder, kind),
            progress or silent,
        )
        for chunk, arrays in chunks:
            digests = [digest(text) for text in chunk.texts]
            vector_of.update(zip(digests, arrays["vectors"], strict=True))
        return np.stack([vector_of[digest(text)] for text in texts])

    def _place(self, encoder: Encoder, kind: str) -> Path:
        method = encoder.method
        prompt = method.query if kind == "query" else method.document
        facts = json.dumps([prompt.prefix, prompt.suffix, versions()], sort_keys=True)
        name = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return self.folder / f"{method.name}-{encoder.signature}-{name}"


def digest(text: str) -> bytes:
    """The hash that names a text's row."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _digests(texts: Sequence[str]) -> UInt8[np.ndarray, "n 32"]:
    packed = b"".join(digest(text) for text in texts)
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def _file(place: Path, chunk: Chunk) -> Path:
    rows = _digests(chunk.texts)
    return place / f"{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.safetensors"


def _compute(encoder: Encoder, kind: str, chunk: Chunk, progress: Progress) -> Arrays:
    vectors = encoder.raw(chunk.texts, kind, progress)
    return {"digests": _digests(chunk.texts), "vectors": np.ascontiguousarray(vectors)}


def _read(place: Path) -> dict[bytes, np.ndarray]:
    """Digest -> vector, of every file."""
    vector_of: dict[bytes, np.ndarray] = {}
    for file in sorted(place.glob("*.safetensors")):
        try:
            arrays = load_file(file)
            digests = [row.tobytes() for row in arrays["digests"]]
            vector_of.update(zip(digests, arrays["vectors"], strict=True))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read ({error}): delete it, and its vectors are made again"
            ) from error
    return vector_of
