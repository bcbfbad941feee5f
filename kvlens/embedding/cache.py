"""Cache: embeddings on disk, one per distinct text and full configuration.

A stopped run continues where it was, and a second one reads what the first has computed. A file's
name is the hash of its content and its folder, so a file that was damaged, or comes from elsewhere,
is known by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from safetensors.numpy import load, save

from kvlens.embedding.chunks import chunks, longest_first
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.together import raw_together, share_a_pass
from kvlens.store.checking import arguments, optional, path
from kvlens.store.files import atomic_path, cache_dir, remove_abandoned
from kvlens.store.notices import notice
from kvlens.store.progress import Progress, part_of, silent
from kvlens.store.provenance import versions

CHUNK = 1024
ENDING = ".safetensors"
DIGEST_BYTES = 32  # of a SHA-256


class EmbeddingCache:
    """Vectors before post-processing, for one encoder after another.

    What decides a vector names its folder: the encoder's signature, the prompt, and the versions of
    what computed it; the text's hash names its row.

    Attributes:
        folder: where they are kept.
    """

    @arguments(folder=optional(path))
    def __init__(self, folder: str | Path | None = None):
        """A cache in `folder`; default ``embeddings`` in the user's cache (see `cache_dir`)."""
        self.folder = Path(folder) if folder else cache_dir() / "embeddings"

    def encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        kind: Literal["query", "document"] = "document",
        progress: Progress | None = None,
        beside: Sequence[Encoder] = (),
    ) -> Float[np.ndarray, "n d"]:
        """Raw vectors of texts; only what is missing is computed.

        A forward pass serves the encoders of `beside`, too, which share it and lack the same texts:
        their vectors are kept for when they are asked for.

        Args:
            encoder: what makes them.
            texts: in any order, with repetitions.
            kind: which of the encoder's prompts.
            progress: called with (done, missing) distinct texts.
            beside: encoders that will be asked for the same texts.

        Returns:
            float32 ``[len(texts), d]``, in the order of `texts`.

        Raises:
            InputError: when the cache cannot be written, and as `Encoder.raw`.
        """
        place = self.place(encoder, kind)
        vector_of = _read(place)
        missing = _missing(texts, vector_of)
        progress = progress or silent
        together = [encoder]
        if missing:
            sharing = [each for each in beside if share_a_pass(encoder, each, kind)]
            together += [each for each in sharing if self.missing(each, kind, texts) == missing]
        for chunk in chunks(missing, CHUNK):
            tell = part_of(progress, chunk.first, len(missing))
            made = raw_together(together, chunk.texts, kind, tell)
            digests = _digests(chunk.texts)
            for each, vectors in zip(together, made, strict=True):
                arrays = {"digests": digests, "vectors": np.ascontiguousarray(vectors)}
                _write(self.place(each, kind), arrays)
            vector_of.update(zip(map(bytes, digests), made[0], strict=True))
            progress(chunk.end, len(missing))
        return np.stack([vector_of[digest(text)] for text in texts])

    def missing(self, encoder: Encoder, kind: str, texts: Sequence[str]) -> list[str]:
        """The texts without a vector; they decide the batches, and these the last bits."""
        return _missing(texts, _read(self.place(encoder, kind)))

    def place(self, encoder: Encoder, kind: str) -> Path:
        """The folder of an encoder's vectors of this kind."""
        method = encoder.method
        prompt = method.query if kind == "query" else method.document
        facts = json.dumps([*prompt.deciding, versions()], sort_keys=True)
        name = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return self.folder / f"{method.name}-{encoder.signature}-{name}"


def digest(text: str) -> bytes:
    """The hash that names a text's row."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _missing(texts: Sequence[str], vector_of: Container[bytes]) -> list[str]:
    """Distinct texts without a vector, in the order in which they are embedded."""
    return longest_first(text for text in texts if digest(text) not in vector_of)


def _digests(texts: Sequence[str]) -> UInt8[np.ndarray, "n 32"]:
    packed = b"".join(digest(text) for text in texts)
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def _write(place: Path, arrays: dict[str, np.ndarray]) -> None:
    content = save(arrays)
    with atomic_path(place / _name(place, content)) as temporary:
        temporary.write_bytes(content)


def _name(place: Path, content: bytes) -> str:
    """The one name that a file of this content has in this folder."""
    return hashlib.sha256(place.name.encode() + content).hexdigest() + ENDING


def _read(place: Path) -> dict[bytes, np.ndarray]:
    """Digest -> vector, of every file that is as it was written; others are removed, and told."""
    remove_abandoned(place)
    vector_of: dict[bytes, np.ndarray] = {}
    unusable = []
    files = sorted(place.glob(f"*{ENDING}"))
    for file in files:
        arrays = _content(file)
        if arrays is None:
            unusable.append(file)
        else:
            vector_of.update(zip(map(bytes, arrays["digests"]), arrays["vectors"], strict=True))
    if unusable:
        notice(
            f"{len(unusable)} of {len(files)} files in {place} are damaged or of another version: "
            f"they are removed, and their vectors made again ({unusable[0].name})"
        )
    for file in unusable:
        with contextlib.suppress(OSError):
            file.unlink()
    return vector_of


def _content(file: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file that was written here under its name; None of any other."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return load(content) if file.name == _name(file.parent, content) else None
