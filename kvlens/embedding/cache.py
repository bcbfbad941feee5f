"""Cache: embeddings on disk, one per distinct text and full configuration; a stopped run continues where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, cache_dir
from kvlens.store.provenance import versions

CHUNK = 1024


class EmbeddingCache:
    """Vectors before post-processing, for one encoder after another.

    folder: default ``embeddings`` in the cache (`kvlens.files.cache_dir`). What decides a vector names its folder:
    the encoder's signature, the prompt, and the versions of what computed it; the text's hash names its row.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder) if folder else cache_dir() / "embeddings"

    def encode(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        kind: Literal["query", "document"] = "document",
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Raw vectors, float32 ``[len(texts), d]``, in the order of `texts`; only what is missing is computed.

        progress: called with (done, missing) distinct texts. Raises InputError for a damaged cache file.
        """
        place = self._place(encoder, kind)
        found = _read(place)
        # The longest first wastes no padding, whatever the order of the texts.
        missing = sorted({t for t in texts if _digest(t) not in found}, key=lambda t: (-len(t), t))
        report = progress or (lambda done, total: None)
        for first in range(0, len(missing), CHUNK):
            some = missing[first : first + CHUNK]

            def tick(done: int, total: int, before: int = first) -> None:
                report(before + done, len(missing))

            vectors = encoder.raw(some, kind, tick)
            digests = [_digest(text) for text in some]
            _write(place, digests, vectors)
            found |= dict(zip(digests, vectors, strict=True))
        return np.stack([found[_digest(text)] for text in texts])

    def _place(self, encoder: Encoder, kind: str) -> Path:
        prompt = encoder.method.query if kind == "query" else encoder.method.document
        facts = json.dumps([prompt.prefix, prompt.suffix, versions()], sort_keys=True)
        name = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return self.folder / f"{encoder.method.name}-{encoder.signature}-{name}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _read(place: Path) -> dict[bytes, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    found: dict[bytes, np.ndarray] = {}
    for file in sorted(place.glob("*.safetensors")):
        try:
            arrays = load_file(file)
            found |= zip(
                (row.tobytes() for row in arrays["digests"]), arrays["vectors"], strict=True
            )
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{file} cannot be read ({error}): delete it, and its vectors are made again"
            ) from error
    return found


def _write(place: Path, digests: Sequence[bytes], vectors: np.ndarray) -> None:
    from safetensors.numpy import save_file

    rows = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
    with atomic_path(
        place / f"{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.safetensors"
    ) as temporary:
        save_file({"digests": rows, "vectors": np.ascontiguousarray(vectors)}, temporary)
