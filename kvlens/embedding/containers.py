"""Containers: the three kinds of file that hold vectors, ids and facts, and how they are read.

numpy's with a JSON file beside it, safetensors, and Parquet. It knows bytes and names of files,
not what the facts mean, nor whether all of it belongs together (`vectors`). How they are written
is in `sinks`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from kvlens.embedding.parts import read_parts, read_parts_info
from kvlens.store.artifact import HEADER

BLOCK = 8192  # rows that are held at a time


@dataclass(frozen=True)
class Table:
    """What a file of vectors holds, as JSON and numpy have it.

    Attributes:
        vectors: an array; float32 ``[rows, dimension]`` where the file is in order.
        ids: one a row, where it is in order.
        info: the facts.
        content: the hash of what was read, where its container has one of its own.
    """

    vectors: np.ndarray
    ids: Any
    info: Any
    content: str = ""


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with a further ending."""
    return path.with_name(path.name + ending)


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


def _read_safetensors(path: Path) -> Table:
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()[HEADER])
        return Table(file.get_tensor("vectors"), header["ids"], header["info"])


def _read_safetensors_info(path: Path) -> Any:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[HEADER])["info"]


def _read_parquet(path: Path) -> Table:
    import pyarrow.parquet as pq

    if path.is_dir():
        return Table(*read_parts(path))
    info = _read_parquet_info(path)
    with pq.ParquetFile(path) as file:
        columns = file.read(columns=["id", "vector"])
    column = columns["vector"].combine_chunks()
    array = column.flatten().to_numpy().reshape(columns.num_rows, -1)
    return Table(array, columns["id"].to_pylist(), info)


def _read_parquet_info(path: Path) -> Any:
    import pyarrow.parquet as pq

    if path.is_dir():
        return read_parts_info(path)
    # Not the schema's: a table that was written in several steps had one before it had facts.
    metadata = pq.read_metadata(path).metadata
    return json.loads(metadata[HEADER.encode()])


def _npy_blocks(path: Path) -> Iterator[np.ndarray]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    for first in range(0, len(mapped), BLOCK):
        yield np.array(mapped[first : first + BLOCK])


def _npy_ids(path: Path) -> Iterable[str]:
    return _header_beside(path)["ids"]


def _safetensors_blocks(path: Path) -> Iterator[np.ndarray]:
    with safe_open(path, framework="np") as file:
        rows = file.get_slice("vectors")
        n = rows.get_shape()[0]
        for first in range(0, n, BLOCK):
            yield rows[first : min(first + BLOCK, n)]  # beyond the end it refuses


def _safetensors_ids(path: Path) -> Iterable[str]:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()[HEADER])["ids"]


def _parquet_blocks(path: Path) -> Iterator[np.ndarray]:
    for batch in _parquet_column(path, "vector"):
        yield batch.flatten().to_numpy().reshape(len(batch), -1)


def _parquet_ids(path: Path) -> Iterable[str]:
    for batch in _parquet_column(path, "id"):
        yield from batch.to_pylist()


def _parquet_column(path: Path, name: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK, columns=[name]):
            yield batch.column(0)


@dataclass(frozen=True)
class Container:
    """How a kind of file is read.

    Attributes:
        read: the table, not yet looked at.
        read_info: its facts alone.
        blocks: its rows, `BLOCK` of them at a time.
        ids: of all rows, one after another.
    """

    read: Callable[[Path], Table]
    read_info: Callable[[Path], Any]
    blocks: Callable[[Path], Iterator[np.ndarray]]
    ids: Callable[[Path], Iterable[str]]


CONTAINERS = {
    ".npy": Container(_read_npy, _read_npy_info, _npy_blocks, _npy_ids),
    ".safetensors": Container(
        _read_safetensors, _read_safetensors_info, _safetensors_blocks, _safetensors_ids
    ),
    ".parquet": Container(_read_parquet, _read_parquet_info, _parquet_blocks, _parquet_ids),
}


def ending(path: Path) -> str:
    """The ending that names a container."""
    return path.suffix.lower()


def files_of(path: Path) -> list[Path]:
    """Every file that vectors under this name consist of."""
    return [path, beside(path, ".json")] if ending(path) == ".npy" else [path]
