"""Windows: a stretch of rows is embedded as a whole, and another one then: what is held stays flat.

Within a window, equal texts are embedded once, and the longest first; its chunks are finished one
by one. Knows neither files of texts nor files of vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32

from kvlens.embedding.chunks import Chunk, longest_first, stored_chunks
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.file_options import FileRun
from kvlens.store.chunk_index import Arrays, ChunkIndex, Form
from kvlens.store.progress import Progress

FORMS = {"vectors": Form("float32", 2), "truncated": Form("int64", 1)}

Item = TypeVar("Item")


@dataclass(frozen=True)
class Embedded:
    """A window that is embedded.

    Attributes:
        vectors: one a row, in the order of the rows.
        distinct: how many texts were embedded.
        truncated: how many of them were cut.
    """

    vectors: Float32[np.ndarray, "rows dimension"]
    distinct: int
    truncated: int


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`items` in stretches of `size`, read as they are asked for."""
    rest = iter(items)
    while window := list(islice(rest, size)):
        yield window


def embed_window(
    encoder: Encoder,
    texts: Sequence[str],
    run: FileRun,
    index: ChunkIndex,
    progress: Progress,
    before: int = 0,
) -> Embedded:
    """Embed the texts of a window; its chunks outlive a run that is stopped.

    Args:
        encoder: what makes the vectors.
        texts: at least one, perhaps with repetitions.
        run: which prompt, how many texts a chunk has, what is done to the vectors last.
        index: where the finished chunks are kept, in `FORMS`.
        progress: called with (done, total) distinct texts, those before among them.
        before: how many distinct texts the windows before had: chunks are named by it.

    Returns:
        The vectors, and what was counted.

    Raises:
        InputError: as `Encoder.encode`, and where a chunk cannot be written.
    """
    distinct = longest_first(texts)
    number_of = {text: number for number, text in enumerate(distinct, before)}
    numbers = np.array([number_of[text] for text in texts])
    vectors: Any = None
    truncated = 0
    compute = partial(embed_chunk, encoder, run)
    stored = stored_chunks(distinct, run.chunk, index, compute, progress, before)
    for chunk, arrays in stored:
        made = arrays["vectors"]
        if vectors is None:
            vectors = np.empty((len(texts), made.shape[1]), made.dtype)
        rows = np.flatnonzero((numbers >= chunk.first) & (numbers < chunk.end))
        vectors[rows] = made[numbers[rows] - chunk.first]
        truncated += int(arrays["truncated"][0])
    return Embedded(vectors, len(distinct), truncated)


def embed_chunk(encoder: Encoder, run: FileRun, chunk: Chunk, progress: Progress) -> Arrays:
    """The vectors of a chunk's distinct texts, and how many of them were cut, in `FORMS`."""
    vectors = encoder.encode(
        chunk.texts,
        prompt_name=run.kind,
        progress=progress,
        normalize_embeddings=run.normalize,
        truncate_dim=run.truncate_dim,
    )
    truncated = np.array([encoder.truncated])
    return {"vectors": np.ascontiguousarray(vectors), "truncated": truncated}
