"""Part files: what an engine has written, looked through and put in place.

An engine that is killed may leave a torn file, and one that tries again a second copy of rows.
Neither counts: a row is there when a whole file has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from kvlens.embedding.parts import INDEX, ROW, TRUNCATED, VECTOR, part_of, write_parts_index
from kvlens.embedding.vectors import VectorsInfo, load_info
from kvlens.store.chunk_index import FinishedChunk
from kvlens.store.errors import InputError
from kvlens.store.files import link, scratch_folder, unwritable, writable_file
from kvlens.store.part import check_part, discard, has_chunks, part_folder

ENDING = ".parquet"


class PartRows(NamedTuple):
    """What is in a part besides the vectors.

    Attributes:
        rows: their places in the input.
        truncated: see `EmbeddingWorker`.
        dimension: how many numbers a vector has; 0 where it holds none.
    """

    rows: Int[np.ndarray, " rows"]
    truncated: Int[np.ndarray, " rows"]
    dimension: int

    @property
    def is_first(self) -> Bool[np.ndarray, " rows"]:
        """Whether a row is in the part for the first time."""
        first = np.zeros(len(self.rows), bool)
        first[np.unique(self.rows, return_index=True)[1]] = True
        return first


@dataclass(frozen=True)
class Written:
    """What the parts of a folder hold.

    Attributes:
        parts: those with a row that no part before them has.
        seen: which rows are there.
        truncated: how many distinct texts were cut.
        dimension: how many numbers a vector has; 0 where there is none.
    """

    parts: tuple[FinishedChunk, ...]
    seen: Bool[np.ndarray, " rows"]
    truncated: int
    dimension: int

    @property
    def n_missing(self) -> int:
        """How many rows are in no part."""
        return int((~self.seen).sum())


def written_in(folder: Path, n: int) -> Written:
    """What an engine has written so far.

    Args:
        folder: with its parts.
        n: how many rows there are to be.

    Returns:
        What is whole of it.
    """
    seen = np.zeros(n, bool)
    parts: list[FinishedChunk] = []
    truncated = 0
    dimension = 0
    for path in sorted(folder.glob(f"*{ENDING}")):
        found = rows_of(path)
        if found is None:
            continue
        dimension = found.dimension
        new = found.is_first & ~seen[found.rows]
        if new.any():
            parts.append(part_of(path))
            truncated += int(found.truncated[new].sum())
            seen[found.rows] = True
    return Written(tuple(parts), seen, truncated, dimension)


def rows_of(path: Path) -> PartRows | None:
    """What is in a part besides the vectors; None where it is torn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=[ROW, TRUNCATED])
            schema = file.schema_arrow
    except (OSError, pa.ArrowException):
        return None
    dimension = schema.field(VECTOR).type.list_size if VECTOR in schema.names else 0
    return PartRows(table[ROW].to_numpy(), table[TRUNCATED].to_numpy(), dimension)


def check_parts_target(target: str | Path, resume: bool, overwrite: bool) -> Path:
    """Refuse a target that no folder of parts can be; so cheap that it can come before the work.

    Args:
        target: the folder that is going to be made.
        resume: whether a stopped run is continued.
        overwrite: whether a folder of parts, or a stopped run, may be replaced.

    Returns:
        `target`.

    Raises:
        InputError: for another ending, an existing target, or a stopped run's parts.
    """
    target = Path(target)
    if target.suffix.lower() != ENDING:
        raise InputError(
            f"{target}: an engine writes a folder of Parquet files: give `target` a name ending "
            f"in {ENDING}"
        )
    if target.exists() and not (target / INDEX).is_file():
        raise InputError(f"{target} is there and no folder of parts: give another `target`")
    writable_file(target / INDEX)
    check_part(part_folder(target), resume or overwrite)
    if target.exists() and not overwrite and not (resume and load_info(target)):
        refuse_existing(target)
    return target


def refuse_existing(target: Path) -> None:
    """Raise InputError for a target that is there, with what can be done."""
    advice = "give another `target`, or `overwrite=True` to replace it"
    if has_chunks(part_folder(target)):
        advice += " (with `resume=True` the stopped run beside it goes on)"
    raise InputError(f"{target} exists: {advice}")


def put_in_place(written: Written, info: VectorsInfo, part: Path, target: Path) -> VectorsInfo:
    """Make the target of the parts of a finished run, which stay where they are.

    Args:
        written: all rows.
        info: what they were made with.
        part: where they are.
        target: replaced as a whole where it exists.

    Returns:
        The facts with what is known at the end.

    Raises:
        InputError: for rows that are missing, and where the folder cannot be made.
    """
    if written.n_missing:
        raise InputError(
            f"{written.n_missing} of {info.rows} rows are in no part of {part}: "
            "`overwrite=True` without `resume` starts again"
        )
    known = {"truncated": written.truncated, "dimension": written.dimension}
    info = info.model_copy(update=known)
    try:
        with scratch_folder(target.resolve()) as scratch:
            new = scratch / "new"
            new.mkdir()
            for each in written.parts:
                link(part / each.file, new / each.file)
            write_parts_index(new, info.model_dump(mode="json"), written.parts)
            if target.exists():
                target.rename(scratch / "old")
            new.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return info


def tidy(target: Path) -> None:
    """Remove what a run that was killed at its very end has left beside its target."""
    with scratch_folder(target.resolve()):
        """Entering removes what is abandoned."""
    discard(part_folder(target))
