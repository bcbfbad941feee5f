"""Staging: texts as Parquet files beside the work, a row group a chunk, for any machine to read.

The texts are read by kvlens' own readers and laid out in the chunks of the local engine: within a
window, equal texts share a chunk and the longest come first. A machine then reads one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.embedding.chunks import chunks, longest_first
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.parts import ID, ROW
from kvlens.embedding.windows import windows
from kvlens.store.errors import InputError
from kvlens.store.files import TextsHash
from kvlens.texts.scan import usable
from kvlens.texts.text_file import Entries
from kvlens.texts.texts import Texts

TEXT = "text"

StagedRow = tuple[int, str, str]
"""A row's place in the input, its id and its text."""


@dataclass(frozen=True)
class StagedChunk:
    """Where a chunk lies.

    Attributes:
        file: of its window.
        group: its row group there.
        rows: how many rows it has.
    """

    file: str
    group: int
    rows: int

    def read(self) -> Any:
        """The chunk as a table of pyarrow: ``row``, ``id``, ``text``."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.file) as file:
            return file.read_row_group(self.group)


def stage(texts: Entries, sha256: str, folder: Path, run: FileRun) -> list[StagedChunk]:
    """Lay texts out in the chunks of the local engine.

    Args:
        texts: they are read once.
        sha256: what their hash was before.
        folder: a new one, which every machine of the engine sees.
        run: how many rows a window has, and a chunk distinct texts.

    Returns:
        The chunks.

    Raises:
        InputError: where the texts have changed.
    """
    texts_hash = TextsHash()

    def rows() -> Iterator[StagedRow]:
        for row, entry in enumerate(usable(texts)):
            texts_hash.add(entry.text)
            yield row, entry.id, entry.text

    parts = (in_chunks(window, run.chunk) for window in windows(rows(), run.window))
    staged = _staged(parts, folder)
    if texts_hash.hexdigest() != sha256:
        raise InputError(f"{texts.name} changed while it was read: embed it again")
    return staged


def stage_in_order(texts: Texts, folder: Path, size: int) -> list[StagedChunk]:
    """Lay texts out in stretches of `size`, as they come; see `stage`."""
    rows = ((row, "", text) for row, text in enumerate(texts))
    return _staged([windows(rows, size)], folder)


def _staged(files: Iterable[Iterable[Sequence[StagedRow]]], folder: Path) -> list[StagedChunk]:
    """Write the chunks of each file."""
    folder.mkdir()
    staged: list[StagedChunk] = []
    for number, parts in enumerate(files):
        staged.extend(_write(parts, folder.resolve() / f"{number:06d}.parquet"))
    return staged


def in_chunks(window: Sequence[StagedRow], chunk: int) -> Iterator[list[StagedRow]]:
    """The rows of a window, in stretches with `chunk` distinct texts each."""
    rows_of: dict[str, list[StagedRow]] = {}
    for row in window:
        rows_of.setdefault(row[2], []).append(row)
    for part in chunks(longest_first(rows_of), chunk):
        yield [row for text in part.texts for row in rows_of[text]]


def as_table(rows: Sequence[StagedRow]) -> Any:
    """Rows as a table of pyarrow: ``row``, ``id``, ``text``."""
    import pyarrow as pa

    types = _types()
    columns = dict(zip(types, zip(*rows, strict=True), strict=True))
    return pa.table(columns, pa.schema(types))


def _types() -> dict[str, Any]:
    import pyarrow as pa

    return {ROW: pa.int64(), ID: pa.large_string(), TEXT: pa.large_string()}


def _write(parts: Iterable[Sequence[StagedRow]], file: Path) -> Iterator[StagedChunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, pa.schema(_types())) as writer:
        for group, rows in enumerate(parts):
            writer.write_table(as_table(rows), row_group_size=len(rows))
            yield StagedChunk(str(file), group, len(rows))
