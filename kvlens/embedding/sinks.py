"""Sinks: vectors and ids, written row by row into each of the three containers.

What a header says is known at the end, where it stands first: numpy's needs the number of rows
alone, safetensors' gets its rows copied behind it, and Parquet has its own at the end. It knows
bytes and names of files, as `containers` does, which reads them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.lib.format as npy
from jaxtyping import Float32

from kvlens.embedding.containers import beside
from kvlens.store.artifact import HEADER
from kvlens.store.files import atomic_path

ROWS_IN_A_GROUP = 8192  # of a Parquet file that is written in several steps
ALIGNMENT = 8  # bytes: of what follows the header of safetensors

Rows = Float32[np.ndarray, "n dimension"]


@dataclass(frozen=True)
class IdFile:
    """The ids of all rows, kept in a file until they are written.

    Attributes:
        path: of the file: an id in JSON a line.
    """

    path: Path

    def add(self, ids: Sequence[str]) -> None:
        """Append the next ids."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(name) + "\n" for name in ids)

    def __iter__(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


@runtime_checkable
class Sink(Protocol):
    """Where the rows of a table go, one stretch after another."""

    def __init__(self, path: Path, temporary: Path, n: int):
        """A sink without a row.

        Args:
            path: the name that the file will have.
            temporary: the file until then, alone in its folder.
            n: how many rows there will be.
        """

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Write the next rows."""

    def finish(self, info: Any, ids: IdFile) -> None:
        """Write the facts, and the ids where they have not been written yet."""

    def close(self) -> None:
        """Let go of the file, finished or not."""


class NpySink:
    """A file as `numpy.save` writes it; ids and facts go into a JSON file beside it."""

    def __init__(self, path: Path, temporary: Path, n: int):
        self.path = path
        self.n = n
        self._file = temporary.open("wb")

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Write the next rows, the header before the first of them."""
        if not self._file.tell():
            form = {
                "descr": npy.dtype_to_descr(rows.dtype),
                "fortran_order": False,
                "shape": (self.n, rows.shape[1]),
            }
            npy.write_array_header_1_0(self._file, form)
        # Not by numpy, which does not notice that a disk is full at its last bytes.
        self._file.write(np.ascontiguousarray(rows).data)

    def finish(self, info: Any, ids: IdFile) -> None:
        """Write the file beside it: it gets its name first, an array is never without its ids."""
        self.close()
        with (
            atomic_path(beside(self.path, ".json")) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            file.writelines(_header(info, ids))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class SafetensorsSink:
    """A file of the safetensors format: the tensor ``vectors``, the rest in its header."""

    def __init__(self, path: Path, temporary: Path, n: int):
        self.path = temporary
        self.n = n
        self.dimension = 0
        self._rows = temporary.with_name("rows")
        self._file = self._rows.open("wb")

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Write the next rows into a file of their own, which a header can be put before."""
        self.dimension = rows.shape[1]
        self._file.write(np.ascontiguousarray(rows).data)

    def finish(self, info: Any, ids: IdFile) -> None:
        """Write the header with its length before it, and copy the rows behind it."""
        self.close()
        with self.path.open("wb") as file, self._rows.open("rb") as rows:
            file.write(bytes(ALIGNMENT))
            for piece in self._header(info, ids):
                file.write(piece.encode())
            file.write(b" " * (-file.tell() % ALIGNMENT))
            length = file.tell() - ALIGNMENT
            shutil.copyfileobj(rows, file)
            file.seek(0)
            file.write(length.to_bytes(ALIGNMENT, "little"))
        self._rows.unlink()

    def close(self) -> None:
        """Let go of the file of the rows."""
        self._file.close()

    def _header(self, info: Any, ids: IdFile) -> Iterator[str]:
        shape = [self.n, self.dimension]
        n_bytes = self.n * self.dimension * np.dtype(np.float32).itemsize
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, n_bytes]}
        yield f'{{"__metadata__":{{"{HEADER}":"'
        for piece in _header(info, ids):
            yield json.dumps(piece)[1:-1]  # a text in JSON, which is a text of the header's JSON
        yield f'"}},"vectors":{json.dumps(tensor, separators=(",", ":"))}}}'


class ParquetSink:
    """A Parquet file with the columns ``id`` and ``vector``; the facts are in its metadata."""

    def __init__(self, path: Path, temporary: Path, n: int):
        self.path = temporary
        self.n = n
        self._whole: Any = None
        self._writer: Any = None

    def append(self, ids: Sequence[str], rows: Rows) -> None:
        """Write the next rows; what comes at once waits, since its schema can hold the facts."""
        import pyarrow as pa  # a tenth of a second, for this container alone
        import pyarrow.parquet as pq

        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        table = pa.table({"id": pa.array(ids, pa.string()), "vector": column})
        if len(ids) == self.n:
            self._whole = table
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table, ROWS_IN_A_GROUP)

    def finish(self, info: Any, ids: IdFile) -> None:
        """Write the facts and close the file."""
        import pyarrow.parquet as pq

        header = {HEADER: json.dumps(info)}
        if self._whole is not None:
            pq.write_table(self._whole.replace_schema_metadata(header), self.path)
            return
        self._writer.add_key_value_metadata(header)
        self.close()

    def close(self) -> None:
        """Let go of the file, which gets its end by that."""
        if self._writer is not None:
            self._writer.close()


SINKS: dict[str, type[Sink]] = {
    ".npy": NpySink,
    ".safetensors": SafetensorsSink,
    ".parquet": ParquetSink,
}


def _header(info: Any, ids: IdFile) -> Iterator[str]:
    """Facts and ids as one object in JSON, in pieces."""
    yield f'{{"info": {json.dumps(info)}, "ids": ['
    for number, name in enumerate(ids):
        yield (", " if number else "") + json.dumps(name)
    yield "]}"
