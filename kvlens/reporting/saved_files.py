"""Saved files: which files and folders of a tree are of kvlens, by name and by content.

It reads no values: what is in them is `examining`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from kvlens.store.errors import InputError
from kvlens.store.opening import format_of
from kvlens.store.part import RUN

Kind = Literal["result", "part", "results", "page"]

# Files that commands write by these names are of kvlens however damaged they are.
WRITTEN = (
    "profile.json",
    "layers.json",
    "sweep.json",
    "readout.json",
    "study.json",
    "decision.json",
    "effects.json",
    "probe_tokens.json",
    "scores.json",
    "scores-limit-*.json",
    "geometry.json",
    "kv_lens.json",
    "low_rank.json",
    "word_lens.json",
    "trace.safetensors",
    "trace.json",
    "prefix.safetensors",
    "shift.safetensors",
    "patterns.safetensors",
    "patterns-*.safetensors",
    "post-*.safetensors",
)
ENDINGS = (".json", ".safetensors", ".npy", ".parquet")
MARK = b"kvlens"  # in what every file of ours says of itself
EDGE = 1 << 16  # bytes at either end of a file that are searched for it
PAGE = b"<title>KV re-routing in "
RESULTS = "results"  # mteb's folder


@dataclass(frozen=True)
class SavedFile:
    """A file or folder of kvlens.

    Attributes:
        path: of vectors in numpy's container, that of the array.
        kind: a result that `kvlens.open` reads, what a stopped run left, mteb's results, or a page.
    """

    path: Path
    kind: Kind

    @property
    def home(self) -> Path:
        """The folder whose files belong together: of attention and quick looks, the run's."""
        folder = self.path.parent
        inside = folder.name == "attention" or (self.kind == "results" and folder.match("limit-*"))
        return folder.parent if inside else folder


def saved_files(path: Path) -> list[SavedFile]:
    """The files of kvlens at a path.

    Args:
        path: a file, a folder, or what holds many of them.

    Returns:
        Those that are there; hidden folders are scratch, and left out.

    Raises:
        InputError: where there is nothing, or nothing of kvlens.
    """
    if not path.exists():
        raise InputError(f"no such file or folder: {path}")
    if path.is_dir():
        kind = _kind_of_folder(path)
        files = [SavedFile(path, kind)] if kind else list(_walk(path))
        if not files:
            raise InputError(f"{path} has no file of kvlens")
        return files
    file = _of_file(path)
    if file is None:
        raise InputError(f"{path} is no file of kvlens that could be verified")
    return [file]


def _walk(folder: Path) -> Iterator[SavedFile]:
    for parent, folders, names in os.walk(folder):
        special = {name: _kind_of_folder(Path(parent, name)) for name in sorted(folders)}
        folders[:] = [name for name, kind in special.items() if not kind and name[0] != "."]
        files = [_of_file(Path(parent, name)) for name in sorted(names) if name[0] != "."]
        yield from dict.fromkeys(file for file in files if file)
        yield from (SavedFile(Path(parent, name), kind) for name, kind in special.items() if kind)


def _kind_of_folder(folder: Path) -> Kind | None:
    if folder.suffix == ".part" and (folder / RUN).is_file():
        return "part"
    if folder.name == RESULTS and any(folder.glob("kvlens__*")):
        return "results"
    return None


def _of_file(path: Path) -> SavedFile | None:
    """What a file is; None for one that is not of kvlens."""
    if not path.is_file():
        return None
    if path.suffix.lower() == ".html":
        return SavedFile(path, "page") if PAGE in _edges(path) else None
    if path.name.lower().endswith(".npy.json"):
        path = path.with_suffix("")
    if path.suffix.lower() == ".npy":
        header = path.with_name(f"{path.name}.json")
        return SavedFile(path, "result") if MARK in _edges(header) else None
    return SavedFile(path, "result") if _is_result(path) else None


def _is_result(path: Path) -> bool:
    if any(fnmatch(path.name, name) for name in WRITTEN):
        return True
    if path.suffix.lower() not in ENDINGS or MARK not in _edges(path):
        return False
    try:
        return format_of(path).startswith("kvlens.")
    except InputError as error:
        # It is damaged where a reader failed; a whole file without a format is another's.
        return error.__cause__ is not None


def _edges(path: Path) -> bytes:
    """The beginning and the end of a file; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(EDGE)
            file.seek(max(0, path.stat().st_size - EDGE))
            return start + file.read(EDGE)
    except OSError:
        return b""
