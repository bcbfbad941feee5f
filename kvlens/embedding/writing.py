"""Writing: a table of vectors, written while it grows, with its hash, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvlens.embedding.containers import ending
from kvlens.embedding.sinks import SINKS, IdFile, Rows, Sink
from kvlens.embedding.table_hash import TableHash
from kvlens.embedding.vectors import Vectors, VectorsInfo
from kvlens.store.files import atomic_path


class VectorsWriter:
    """Takes the rows of a table in their order; see `writing`."""

    def __init__(self, sink: Sink, ids: IdFile):
        self._sink = sink
        self._ids = ids
        self._hash = TableHash()

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Write the next rows.

        Args:
            ids: one a row.
            rows: as wide as those before.
        """
        self._hash.add(rows)
        self._ids.add(ids)
        self._sink.append(ids, rows)

    def finish(self, info: VectorsInfo) -> VectorsInfo:
        """Write the facts: without them, nothing gets its name.

        Args:
            info: all but the hash.

        Returns:
            The facts with the hash.
        """
        facts = info.model_dump(mode="json")
        facts["sha256"] = self._hash.seal(facts, self._ids)
        self._sink.finish(facts, self._ids)
        return info.model_copy(update={"sha256": facts["sha256"]})


@contextlib.contextmanager
def writing(path: Path, n: int) -> Iterator[VectorsWriter]:
    """A writer of a file of vectors, which gets its name at the end, where nothing fails.

    Args:
        path: its ending is one of `CONTAINERS`.
        n: how many rows there will be, at least one.

    Yields:
        The writer, which has to be finished.

    Raises:
        InputError: when the place cannot be written.
    """
    with atomic_path(path) as temporary:
        ids = IdFile(temporary.with_name("ids"))
        with contextlib.closing(SINKS[ending(path)](path, temporary, n)) as sink:
            yield VectorsWriter(sink, ids)


def write_vectors(vectors: Vectors, path: Path) -> None:
    """Write vectors with their hash, whole or not at all.

    Args:
        vectors: the table.
        path: its ending is one of `CONTAINERS`.

    Raises:
        InputError: when the place cannot be written.
    """
    with writing(path, len(vectors.vectors)) as writer:
        writer.append(vectors.ids, vectors.vectors)
        writer.finish(vectors.info)
