"""Chunk index: which chunks of a long job are finished, each with the hash of its file.

A job writes its arrays chunk by chunk into a folder, and then a line for each into
``chunks.jsonl``. It knows nothing of what is computed, and nothing of the job that goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kvlens.store.artifact import Record, later_field
from kvlens.store.errors import InputError, one_line
from kvlens.store.files import atomic_path, unwritable, write_text
from kvlens.store.notices import notice
from kvlens.store.room import Room

INDEX = "chunks.jsonl"

Arrays = dict[str, np.ndarray]


class Form(NamedTuple):
    """What every chunk has under a name: the type and the number of axes of an array."""

    dtype: str
    ndim: int


class FinishedChunk(Record):
    """A line of the index.

    Attributes:
        file: its name in the folder.
        sha256: of the file.
        rows: how many rows its first array has.
        room: how large batches may be after it, where memory was short, see `Room`.
    """

    file: str
    sha256: str
    rows: int
    room: int | None = later_field()


class Unusable(ValueError):
    """Why a chunk has to be computed again, as the rest of a line."""


class ChunkIndex:
    """The finished chunks of a folder.

    Attributes:
        folder: where the chunks and their index are.
        forms: name -> what every chunk has under it; the first array has the chunk's rows.
        room: of who computes them: a chunk that is read brings back what was left after it, so
            that those after it are computed as if it had been, too.
    """

    def __init__(self, folder: Path, forms: Mapping[str, Form], room: Room | None = None):
        """An index without a chunk; see `open` for what is there already."""
        self.folder = folder
        self.forms = forms
        self.room = room
        self._chunks: dict[str, FinishedChunk] = {}
        self._row_shape: tuple[int, ...] | None = None

    @classmethod
    def open(cls, folder: Path, forms: Mapping[str, Form], room: Room | None = None) -> Self:
        """The index of a folder, each of its chunks looked at.

        What cannot be used is left out, and said in one line.

        Args:
            folder: perhaps with chunks of a job that was stopped.
            forms: see `ChunkIndex`.
            room: see `ChunkIndex`.

        Returns:
            The index, its file put in order.

        Raises:
            InputError: when its file cannot be put in order.
        """
        index = cls(folder, forms, room)
        problems = index._read()
        if problems:
            name, problem = next(iter(problems.items()))
            notice(
                f"{len(problems)} of {len(problems) + len(index._chunks)} chunks in {folder} "
                f"cannot be used and are computed again ({name} {problem})"
            )
        return index

    @property
    def finished(self) -> tuple[FinishedChunk, ...]:
        """The finished chunks in the order of their names."""
        return tuple(self._chunks[name] for name in sorted(self._chunks))

    def chunk(self, name: str, rows: int, compute: Callable[[], Arrays]) -> Arrays:
        """The arrays of a chunk: read where it is finished, else computed and written.

        Args:
            name: of its file.
            rows: how many it has.
            compute: makes it, in the index's `forms`.

        Returns:
            Its arrays.

        Raises:
            InputError: when it cannot be written, and as `compute`.
        """
        if name in self._chunks:
            try:
                return self._finished(self._chunks[name], rows)
            except Unusable as error:
                notice(f"{self.folder / name} {error}: it is computed again")
        arrays = compute()
        try:
            self._check(arrays, rows)
        except Unusable as error:
            raise InputError(
                f"what is computed now {error}: {self.folder} is of another run, move it away"
            ) from error
        self._add(name, arrays)
        return arrays

    def _finished(self, line: FinishedChunk, rows: int) -> Arrays:
        arrays = self._load(line, rows)
        if self.room is not None:
            self.room.set_short(line.room)
        return arrays

    def _add(self, name: str, arrays: Arrays) -> None:
        """Write a chunk, then its line: what has a line is whole."""
        rows = len(self._first(arrays))
        content = save(arrays)
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        room = self.room.short if self.room else None
        self._chunks[name] = FinishedChunk(file=name, sha256=digest, rows=rows, room=room)
        try:
            with (self.folder / INDEX).open("a", encoding="utf-8") as file:
                file.write(self._chunks[name].model_dump_json() + "\n")
        except OSError as error:
            raise unwritable(self.folder / INDEX, error) from error

    def _read(self) -> dict[str, str]:
        """Take the chunks that are whole; give what is wrong with the others, by their names."""
        lines, in_order = _lines(self.folder / INDEX)
        files = {path.name for path in self.folder.glob("*.safetensors")}
        unlisted = sorted(files - lines.keys())
        problems: dict[str, str] = {}
        # A job that is stopped between a file and its line leaves one, with nothing wrong.
        if len(unlisted) > 1 or not in_order:
            problems = dict.fromkeys(unlisted, f"is not in {INDEX}")
        for name, line in lines.items():
            try:
                self._load(line, line.rows)
            except Unusable as error:
                problems[name] = str(error)
            else:
                self._chunks[name] = line
        self._rewrite()
        return problems

    def _rewrite(self) -> None:
        """Put the index in order: without what cannot be used, and without a torn last line."""
        lines = [chunk.model_dump_json() + "\n" for chunk in self._chunks.values()]
        write_text(self.folder / INDEX, "".join(lines))

    def _load(self, line: FinishedChunk, rows: int) -> Arrays:
        """The arrays of a finished chunk; raises Unusable where it is not as it was written."""
        content = _content(self.folder, line)
        try:
            arrays = load(content)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise Unusable(f"cannot be read: {one_line(error)}") from error
        self._check(arrays, rows)
        return arrays

    def _check(self, arrays: Arrays, rows: int) -> None:
        if arrays.keys() != self.forms.keys():
            raise Unusable(f"holds other arrays than {', '.join(self.forms)}")
        for name, form in self.forms.items():
            array = arrays[name]
            if (str(array.dtype), array.ndim) != form:
                raise Unusable(f"holds {name} of {array.dtype} in {array.ndim} axes")
            if not np.isfinite(array).all():
                raise Unusable(f"holds NaN or infinity among {name}")
        n_rows, *row_shape = self._first(arrays).shape
        if n_rows != rows:
            raise Unusable(f"holds {n_rows} rows in place of {rows}")
        self._row_shape = self._row_shape or tuple(row_shape)
        if self._row_shape != tuple(row_shape):
            raise Unusable(f"holds rows of {row_shape} beside rows of {list(self._row_shape)}")

    def _first(self, arrays: Arrays) -> np.ndarray:
        return arrays[next(iter(self.forms))]


def _content(folder: Path, line: FinishedChunk) -> bytes:
    """The file of a finished chunk; raises Unusable where it is not as it was written."""
    try:
        content = (folder / line.file).read_bytes()
    except (OSError, ValueError) as error:  # also a name that no file has
        reason = getattr(error, "strerror", None) or one_line(error)
        raise Unusable(f"cannot be read: {reason}") from error
    if hashlib.sha256(content).hexdigest() != line.sha256:
        raise Unusable("is damaged: its hash is another")
    return content


def chunk_file(first: int) -> str:
    """The name of a chunk's file, by how many rows come before it."""
    return f"{first:09d}.safetensors"


def chunk_problems(folder: Path) -> dict[str, str | None]:
    """What is wrong with the chunks of a folder, in which nothing is changed.

    Args:
        folder: of a job that was stopped.

    Returns:
        Name of each chunk -> why it would be computed again, as the rest of a line; empty where
        it is as it was written; None where no hash of it was.

    Raises:
        InputError: when the index cannot be read.
    """
    lines, _ = _lines(folder / INDEX)
    names = sorted({path.name for path in folder.glob("*.safetensors")} | lines.keys())
    return {name: _problem(folder, lines.get(name)) for name in names}


def _problem(folder: Path, line: FinishedChunk | None) -> str | None:
    if line is None:
        return None
    try:
        _content(folder, line)
    except Unusable as error:
        return str(error)
    return ""


def _lines(path: Path) -> tuple[dict[str, FinishedChunk], bool]:
    """The lines of an index by file, the last of each; and whether nothing else is among them.

    A torn last line, of a process that was killed while it wrote, is no line.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}, True
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    whole = text.rpartition("\n")[0]
    lines: dict[str, FinishedChunk] = {}
    in_order = True
    for line in filter(None, whole.split("\n")):
        try:
            chunk = FinishedChunk.model_validate(json.loads(line), strict=True)
        except (ValidationError, ValueError, RecursionError):
            in_order = False
            continue
        if Path(chunk.file).name != chunk.file:
            in_order = False
            continue
        lines[chunk.file] = chunk
    return lines, in_order
