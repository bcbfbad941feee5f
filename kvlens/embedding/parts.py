"""Parts: vectors as a folder of Parquet files, as engines write them.

A part has the columns ``row`` (the place in the input, from 0), ``id`` and ``vector``. An engine
that tries again may write a row twice: it counts once. ``_vectors.json`` names the parts, with a
hash of each, and holds the facts; what other readers of Parquet see in the folder is the parts
alone, since they leave out what begins with an underscore.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvlens.store.chunk_index import FinishedChunk
from kvlens.store.files import sha256_file, write_text

INDEX = "_vectors.json"
ROW, ID, VECTOR, TRUNCATED = "row", "id", "vector", "truncated"


class PartsTable(NamedTuple):
    """What a folder of parts holds: as `containers.Table`, with the hash of its content."""

    vectors: np.ndarray
    ids: list[str]
    info: Any
    content: str


def part_of(path: Path) -> FinishedChunk:
    """What the index says of a part; raises pyarrow's errors for what is no whole Parquet file."""
    import pyarrow.parquet as pq

    rows = pq.read_metadata(path).num_rows
    return FinishedChunk(file=path.name, sha256=sha256_file(path), rows=rows)


def content_of(info: Mapping[str, Any], parts: Sequence[FinishedChunk]) -> str:
    """The hash of facts and parts.

    Args:
        info: the facts as JSON; a hash among them is left out.
        parts: each with the hash of its file.

    Returns:
        64 hexadecimal digits.
    """
    facts = {name: value for name, value in info.items() if name != "sha256"}
    lines = [part.model_dump() for part in parts]
    canonical = json.dumps([facts, lines], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_parts_index(
    folder: Path, info: Mapping[str, Any], parts: Sequence[FinishedChunk]
) -> None:
    """Seal a folder of parts: from then on it is vectors that `load_vectors` reads.

    Args:
        folder: where the parts are.
        info: the facts of `VectorsInfo` as JSON; their hash is put in here.
        parts: in the order in which they are read.

    Raises:
        InputError: when the index cannot be written.
    """
    sealed = {**info, "sha256": content_of(info, parts)}
    lines = [part.model_dump() for part in parts]
    write_text(folder / INDEX, json.dumps({"info": sealed, "parts": lines}, indent=1))


def read_parts_info(folder: Path) -> Any:
    """The facts of a folder of parts."""
    return _read_index(folder)["info"]


def damage_in(folder: Path) -> str:
    """What is not as it was written in a folder, as the rest of a line; empty where all is."""
    index = _read_index(folder)
    parts = [FinishedChunk.model_validate(part) for part in index["parts"]]
    content = content_of(index["info"], parts)
    files = {part.file: folder / Path(part.file).name for part in parts}
    for part in parts:
        file = files[part.file]
        if not file.is_file():
            return f"{part.file} is not there"
        if sha256_file(file) != part.sha256:
            return f"{part.file} is damaged: its hash is another"
    return "" if content == index["info"]["sha256"] else "the hash in it is of other content"


def read_parts(folder: Path) -> PartsTable:
    """The vectors of a folder, in the order of their rows, each row once.

    Raises:
        ValueError: for a part that is not as it was written. Other errors are the readers' own.
    """
    index = _read_index(folder)
    parts = [FinishedChunk.model_validate(part) for part in index["parts"]]
    tables = [_read_part(folder, part) for part in parts]
    rows = np.concatenate([table[ROW].to_numpy() for table in tables])
    _, first = np.unique(rows, return_index=True)
    vectors = np.concatenate([_vectors(table) for table in tables])
    ids = [name for table in tables for name in table[ID].to_pylist()]
    content = content_of(index["info"], parts)
    return PartsTable(vectors[first], [ids[i] for i in first], index["info"], content)


def _read_index(folder: Path) -> Any:
    return json.loads((folder / INDEX).read_text(encoding="utf-8"))


def _read_part(folder: Path, part: FinishedChunk) -> Any:
    import pyarrow as pa  # a tenth of a second, for parts alone
    import pyarrow.parquet as pq

    if Path(part.file).name != part.file:
        raise ValueError(f"{part.file!r:.60} is no name of a part")
    data = (folder / part.file).read_bytes()
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise ValueError(f"{part.file} is damaged: its hash is another")
    return pq.read_table(pa.BufferReader(data), columns=[ROW, ID, VECTOR])


def _vectors(table: Any) -> np.ndarray:
    column = table[VECTOR].combine_chunks()
    return column.flatten().to_numpy().reshape(table.num_rows, -1)
