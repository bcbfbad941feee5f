"""Containers: the three kinds of file that hold vectors, ids and facts.

numpy's with a JSON file beside it, safetensors, and Parquet. It knows bytes and names of files,
not what the facts mean, nor whether all of it belongs together (`vectors`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.format as npy
from safetensors import safe_open
from safetensors.numpy import save_file

from kvlens.store.artifact import HEADER
from kvlens.store.files import write_text


@dataclass(frozen=True)
class Table:
    """What a file of vectors holds, as JSON and numpy have it.

    Attributes:
        vectors: an array; float32 ``[rows, dimension]`` where the file is in order.
        ids: one a row, where it is in order.
        info: the facts.
    """

    vectors: np.ndarray
    ids: Any
    info: Any

    @property
    def header(self) -> str:
        """Facts and ids as JSON."""
        return json.dumps({"info": self.info, "ids": self.ids})


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with a further ending."""
    return path.with_name(path.name + ending)


def _write_npy(table: Table, path: Path, temporary: Path) -> None:
    vectors = np.ascontiguousarray(table.vectors)
    with temporary.open("wb") as file:
        # As `np.save` does, which does not notice that a disk is full at its last bytes.
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(vectors))
        file.write(vectors.data)
    # Before the array gets its name: an array is never there without its ids.
    write_text(beside(path, ".json"), table.header)


def _read_npy(path: Path) -> Table:
    # Mapped first: a header that claims more than the file holds allocates nothing.
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        raise ValueError("it is an archive of arrays")
    header = _header_beside(path)
    return Table(np.array(mapped), header["ids"], header["info"])


def _read_npy_info(path: Path) -> Any:
    return _header_beside(path)["info"]


def _header_beside(path: Path) -> Any:
    return json.loads(beside(path, ".json").read_text(encoding="utf-8"))


def _write_safetensors(table: Table, path: Path, temporary: Path) -> None:
    save_file({"vectors": table.vectors}, temporary, {HEADER: table.header})


def _read_safetensors(path: Path) -> Table:
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()[HEADER])
        return Table(file.get_tensor("vectors"), header["ids"], header["info"])


def _read_safetensors_info(path: Path) -> Any:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[HEADER])["info"]


def _write_parquet(table: Table, path: Path, temporary: Path) -> None:
    import pyarrow as pa  # a tenth of a second, for this container alone
    import pyarrow.parquet as pq

    array = table.vectors
    column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    columns = pa.table({"id": pa.array(table.ids, pa.string()), "vector": column})
    header = {HEADER: json.dumps(table.info)}
    pq.write_table(columns.replace_schema_metadata(header), temporary)


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    info = _read_parquet_info(path)
    with pq.ParquetFile(path) as file:
        columns = file.read(columns=["id", "vector"])
    column = columns["vector"].combine_chunks()
    array = column.flatten().to_numpy().reshape(columns.num_rows, -1)
    return Table(array, columns["id"].to_pylist(), info)


def _read_parquet_info(path: Path) -> Any:
    import pyarrow.parquet as pq

    metadata = pq.read_schema(path).metadata
    return json.loads(metadata[HEADER.encode()])


@dataclass(frozen=True)
class Container:
    """One way to hold vectors in a file.

    Attributes:
        write: a table, under a name, into a temporary file that will have that name.
        read: the table, not yet looked at.
        read_info: its facts alone.
    """

    write: Callable[[Table, Path, Path], None]
    read: Callable[[Path], Table]
    read_info: Callable[[Path], Any]


CONTAINERS = {
    ".npy": Container(_write_npy, _read_npy, _read_npy_info),
    ".safetensors": Container(_write_safetensors, _read_safetensors, _read_safetensors_info),
    ".parquet": Container(_write_parquet, _read_parquet, _read_parquet_info),
}


def ending(path: Path) -> str:
    """The ending that names a container."""
    return path.suffix.lower()


def files_of(path: Path) -> list[Path]:
    """Every file that vectors under this name consist of."""
    return [path, beside(path, ".json")] if ending(path) == ".npy" else [path]
