"""Vectors: a table of embeddings with the ids of its rows and where it comes from, in one file.

Three containers hold the same: numpy's with a JSON file beside it, safetensors, and Parquet.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.numpy import save_file

from kvlens.models.info import ModelInfo
from kvlens.store.artifact import HEADER
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, write_text
from kvlens.texts.texts import TextsInfo

Kind = Literal["query", "document"]
LONGEST_REASON = 200


class VectorsInfo(BaseModel):
    """Where vectors come from.

    Attributes:
        model: the model.
        method: the name of the method.
        settings: the method's.
        max_length: most tokens of a text with its prompt.
        encoder: `Encoder.signature`.
        post: facts and hash of the post-processing, see `Post.facts`; or None.
        kind: which prompt.
        normalize: whether they are of unit length.
        truncate_dim: how many leading dimensions were kept; None: all.
        chunk: how many texts were finished at a time.
        batch_tokens: most padded tokens of a batch; it and `chunk` group the texts, which decides
            the last bits.
        texts: what was embedded.
        versions: package -> version.
        rows: how many vectors there are.
        skipped: how many bad rows were left out.
        truncated: how many distinct texts were cut to `max_length` tokens.
        dimension: how many numbers a vector has.
    """

    # The settings may hold infinity, which is why this is no `Record`.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    format: Literal["kvlens.vectors"] = "kvlens.vectors"
    version: Literal[1] = 1
    model: ModelInfo
    method: str
    settings: dict[str, Any]
    max_length: int
    encoder: str
    post: dict[str, Any] | None
    kind: Kind
    normalize: bool
    truncate_dim: int | None
    chunk: int
    batch_tokens: int
    texts: TextsInfo
    versions: dict[str, str]
    rows: int
    skipped: int
    truncated: int = 0
    dimension: int = 0


@dataclass(frozen=True)
class Vectors:
    """Vectors with their rows' ids.

    Attributes:
        vectors: float32 ``[rows, dimension]``, in the order of the input.
        ids: one a row.
        info: where they come from.
    """

    vectors: Float[np.ndarray, "rows dimension"] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    info: VectorsInfo

    @property
    def header(self) -> str:
        """Provenance and ids as JSON."""
        return json.dumps({"info": self.info.model_dump(mode="json"), "ids": list(self.ids)})


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with a further ending."""
    return path.with_name(path.name + ending)


def _write_npy(vectors: Vectors, path: Path, temporary: Path) -> None:
    with temporary.open("wb") as file:
        np.save(file, vectors.vectors)
    # Before the array gets its name: an array is never there without its ids.
    write_text(beside(path, ".json"), vectors.header)


def _read_npy(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    array = np.load(path)
    return array, json.loads(beside(path, ".json").read_text(encoding="utf-8"))


def _write_safetensors(vectors: Vectors, path: Path, temporary: Path) -> None:
    save_file({"vectors": vectors.vectors}, temporary, {HEADER: vectors.header})


def _read_safetensors(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with safe_open(path, framework="np") as file:
        return file.get_tensor("vectors"), json.loads(file.metadata()[HEADER])


def _write_parquet(vectors: Vectors, path: Path, temporary: Path) -> None:
    import pyarrow as pa  # a tenth of a second, for this container alone
    import pyarrow.parquet as pq

    array = vectors.vectors
    column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    table = pa.table({"id": pa.array(vectors.ids, pa.string()), "vector": column})
    header = {HEADER: vectors.info.model_dump_json()}
    pq.write_table(table.replace_schema_metadata(header), temporary)


def _read_parquet(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    info = json.loads(table.schema.metadata[HEADER.encode()])
    column = table["vector"].combine_chunks()
    array = column.flatten().to_numpy().reshape(table.num_rows, -1)
    return array, {"info": info, "ids": table["id"].to_pylist()}


@dataclass(frozen=True)
class Container:
    """One way to hold vectors in a file.

    Attributes:
        write: vectors, under a name, into a temporary file that will have that name.
        read: the array, and the header with ``info`` and ``ids``.
    """

    write: Callable[[Vectors, Path, Path], None]
    read: Callable[[Path], tuple[np.ndarray, dict[str, Any]]]


CONTAINERS = {
    ".npy": Container(_write_npy, _read_npy),
    ".safetensors": Container(_write_safetensors, _read_safetensors),
    ".parquet": Container(_write_parquet, _read_parquet),
}


def ending(path: Path) -> str:
    """The ending that names a container."""
    return path.suffix.lower()


def files_of(path: Path) -> list[Path]:
    """Every file that vectors under this name consist of."""
    return [path, beside(path, ".json")] if ending(path) == ".npy" else [path]


def write_vectors(vectors: Vectors, path: Path) -> None:
    """Write vectors, whole or not at all.

    Args:
        vectors: the table.
        path: its ending is one of `CONTAINERS`.

    Raises:
        InputError: when the place cannot be written.
    """
    with atomic_path(path) as temporary:
        CONTAINERS[ending(path)].write(vectors, path, temporary)


def load_vectors(path: str | Path) -> Vectors:
    """Read what `embed_file` wrote.

    Args:
        path: the file; that of ids and provenance is found beside a ``.npy``.

    Returns:
        The vectors, float32, with ids and provenance.

    Raises:
        InputError: when the file, or the one beside it, is not that.
    """
    path = Path(path)
    container = CONTAINERS.get(ending(path), CONTAINERS[".npy"])
    try:
        array, header = container.read(path)
        info = VectorsInfo.model_validate(header["info"])
        return Vectors(array, tuple(header["ids"]), info)
    except Exception as error:  # the readers' errors share no base
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
        raise InputError(f"{path} is not readable as kvlens vectors ({reason})") from error
