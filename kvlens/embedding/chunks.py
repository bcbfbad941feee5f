"""Chunks: distinct texts in stretches, each finished before the next.

Knows nothing of what is computed, nor of how a finished chunk is kept (`chunk_index`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from kvlens.store.chunk_index import Arrays, ChunkIndex, chunk_file
from kvlens.store.progress import Progress, part_of


@dataclass(frozen=True)
class Chunk:
    """A stretch of the distinct texts.

    Attributes:
        first: how many texts of the whole job come before it.
        texts: its texts.
    """

    first: int
    texts: tuple[str, ...]

    @property
    def end(self) -> int:
        """How many texts are done with it."""
        return self.first + len(self.texts)


def chunks(texts: Sequence[str], size: int, before: int = 0) -> Iterator[Chunk]:
    """`texts` in stretches of `size`; `before` them, the job has other texts."""
    for first in range(0, len(texts), size):
        yield Chunk(before + first, tuple(texts[first : first + size]))


def longest_first(texts: Iterable[str]) -> list[str]:
    """Each distinct text once, in an order of their own.

    Equal texts get equal vectors, whatever the order of the rows; the longest first waste no
    padding.
    """
    return sorted(set(texts), key=lambda text: (-len(text), text))


def stored_chunks(
    texts: Sequence[str],
    size: int,
    index: ChunkIndex,
    compute: Callable[[Chunk, Progress], Arrays],
    progress: Progress,
    before: int = 0,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Each chunk with its arrays: read where it is finished, else computed and written whole.

    Args:
        texts: distinct, see `longest_first`.
        size: how many texts are finished at a time.
        index: where the arrays of the chunks are kept.
        compute: makes them, and reports its progress within the chunk.
        progress: called with (done, total) texts.
        before: how many texts of the job come before these.

    Yields:
        The chunks in the order of `texts`, and their arrays.

    Raises:
        InputError: where a file cannot be written, and as `compute`.
    """
    total = before + len(texts)
    for chunk in chunks(texts, size, before):
        tell = part_of(progress, chunk.first, total)
        arrays = index.chunk(
            chunk_file(chunk.first), len(chunk.texts), partial(compute, chunk, tell)
        )
        yield chunk, arrays
        progress(chunk.end, total)
