"""Vectors: a table of embeddings with the ids of its rows and where it comes from.

A hash over all of it tells a file that was damaged, and two files that do not belong together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, ValidationError

from kvlens.embedding.containers import CONTAINERS, Table, ending, files_of
from kvlens.embedding.table_hash import TableHash
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import first_problem, later_field
from kvlens.store.checking import arguments, path
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.notices import notice
from kvlens.texts.texts import TextsInfo

Kind = Literal["query", "document"]
KNOWN_AT_THE_END = ("version", "truncated", "dimension", "sha256")


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
        window: how many rows were sorted by length and had equal texts embedded once at a time;
            None: all.
        batch_tokens: most padded tokens of a batch; it, `chunk` and `window` group the texts, which
            decides the last bits.
        texts: what was embedded.
        versions: package -> version.
        rows: how many vectors there are.
        skipped: how many bad rows were left out.
        truncated: how many distinct texts of a window were cut to `max_length` tokens.
        dimension: how many numbers a vector has.
        sha256: the hash of rows, facts and ids, see `TableHash`; empty in version 1.
    """

    # The settings may hold infinity, which is why this is no `Record`.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    format: Literal["kvlens.vectors"] = "kvlens.vectors"
    version: Literal[1, 2] = 2
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
    window: int | None = later_field()
    batch_tokens: int
    texts: TextsInfo
    versions: dict[str, str]
    rows: int
    skipped: int
    truncated: int = 0
    dimension: int = 0
    sha256: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the vectors and is known before they are: JSON, without format's version."""
        facts = {"window": self.window, **self.model_dump(mode="json")}  # None is a fact, too
        return {name: facts[name] for name in facts if name not in KNOWN_AT_THE_END}


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


@arguments(path=path)
def load_vectors(path: str | Path) -> Vectors:
    """Read what `embed_file` wrote.

    Args:
        path: the file; that of ids and provenance is found beside a ``.npy``.

    Returns:
        The vectors, float32, with ids and provenance. Those of version 0.1.0 carry no hash, which
        a warning says.

    Raises:
        InputError: when the file, or the one beside it, is not that, is damaged, or both do not
            belong together.
    """
    path = Path(path)
    container = CONTAINERS.get(ending(path), CONTAINERS[".npy"])
    try:
        vectors = _checked(container.read(path))
    except Exception as error:  # the readers' errors share no base
        raise refusal(path, error) from error
    if not vectors.info.sha256:
        notice(f"{path} is of an older version and carries no hash: it may be damaged unnoticed")
    return vectors


def load_info(path: Path) -> VectorsInfo | None:
    """What a file of vectors says it was made with, the vectors not looked at.

    Args:
        path: the file; of a pair, the other one is enough.

    Returns:
        The facts; None where it says none, or is not there.
    """
    try:
        return VectorsInfo.model_validate(CONTAINERS[ending(path)].read_info(path))
    except Exception:  # the readers' errors share no base
        return None


def _checked(table: Table) -> Vectors:
    """The vectors of a file's content; raises ValueError where something does not agree."""
    info = VectorsInfo.model_validate(table.info)
    array = table.vectors
    check_rows(array, info)
    if array.shape != (info.rows, info.dimension):
        written = [info.rows, info.dimension]
        raise ValueError(f"its array is {list(array.shape)}, where {written} was written")
    ids = table.ids
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise ValueError("its ids are no list of texts")
    if len(ids) != len(array):
        raise ValueError(f"{len(ids)} ids of {len(array)} rows")
    has_hash = info.version >= 2 or info.sha256
    if has_hash and info.sha256 != _hash_of(table):
        raise ValueError("the hash in it is of other content")
    return Vectors(array, tuple(ids), info)


def check_rows(rows: Shaped[np.ndarray, "*shape"], info: VectorsInfo) -> None:
    """Raise ValueError for what are no rows of these vectors."""
    if rows.dtype != np.float32 or rows.ndim != 2:
        raise ValueError(f"its array is {rows.dtype} {list(rows.shape)}, not float32 in rows")
    if rows.shape[1] != info.dimension:
        written = [info.rows, info.dimension]
        raise ValueError(f"its array is {list(rows.shape)}, where {written} was written")
    if not np.isfinite(rows).all():
        raise ValueError("NaN or infinity among the vectors")


def _hash_of(table: Table) -> str:
    if table.content:
        return table.content
    table_hash = TableHash()
    table_hash.add(table.vectors)
    return table_hash.seal(table.info, table.ids)


def refusal(path: Path, error: Exception) -> InputError:
    """Why a file of vectors cannot be used, in one line."""
    names = str(path)
    advice = "embed again with `overwrite=True`"
    if len(files_of(path)) == 2:
        names = f"{path} with {path.name}.json"
        advice = f"bring back the two that belong together, or {advice}"
    reason = first_problem(error) if isinstance(error, ValidationError) else one_line(error)
    if not isinstance(error, ValueError):  # a bare KeyError says the key alone
        reason = f"{type(error).__name__}: {reason}"
    message = f"{names} is not readable as kvlens vectors: {advice} ({reason})"
    return InputError(shortened(message))
