"""Chunks: results of distinct texts, a file a chunk, so that a stopped run continues where it was.

Knows nothing of what is computed: whoever stores something of many texts, in the order of a sorted
list or under their hashes, says what a chunk's file is called and how its arrays are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from kvlens.store.files import atomic_path
from kvlens.store.progress import Progress, part_of

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """A stretch of the distinct texts.

    Attributes:
        first: how many texts come before it.
        texts: its texts.
    """

    first: int
    texts: tuple[str, ...]

    @property
    def end(self) -> int:
        """How many texts are done with it."""
        return self.first + len(self.texts)


def longest_first(texts: Iterable[str]) -> list[str]:
    """Each distinct text once, in an order of their own.

    Equal texts get equal vectors, whatever the order of the rows; the longest first waste no
    padding.
    """
    return sorted(set(texts), key=lambda text: (-len(text), text))


def stored_chunks(
    texts: Sequence[str],
    size: int,
    file_of: Callable[[Chunk], Path],
    compute: Callable[[Chunk, Progress], Arrays],
    progress: Progress,
) -> Iterator[tuple[Chunk, Arrays]]:
    """Each chunk with its arrays: read where its file is finished, else computed and written whole.

    Args:
        texts: distinct, see `longest_first`.
        size: how many texts are finished at a time.
        file_of: where the arrays of a chunk are kept, as safetensors.
        compute: makes them, and reports its progress within the chunk.
        progress: called with (done, total) texts.

    Yields:
        The chunks in the order of `texts`, and what their files hold.

    Raises:
        InputError: where a file cannot be written, and as `compute`.
    """
    for first in range(0, len(texts), size):
        chunk = Chunk(first, tuple(texts[first : first + size]))
        file = file_of(chunk)
        if not file.exists():
            arrays = compute(chunk, part_of(progress, first, len(texts)))
            with atomic_path(file) as temporary:
                temporary.write_bytes(save(arrays))
        yield chunk, load(file.read_bytes())
        progress(chunk.end, len(texts))
