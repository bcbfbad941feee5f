"""Folders: a command's output folder is there whole, or as it was before."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kvlens.store.errors import InputError

# Hours of work of `evaluate` and `sweep`, each saved with all that decides it: a new profile
# leaves them alone.
KEPT = ("results", "limit-*", "sweep.json", "study.json")


def run_name(model: str) -> str:
    """The name of a model's runs: the last part of its id or path, without ``.gguf``."""
    return Path(model.rstrip("/")).name.removesuffix(".gguf")


def run_folder(*models: str, suffix: str = "") -> Path:
    """Where a command writes unless it is told: ``runs/MODEL``, ``runs/MODEL+MODEL``."""
    return Path("runs") / ("+".join(map(run_name, models)) + suffix)


@contextlib.contextmanager
def output_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A scratch folder that becomes `folder` on success and vanishes on failure.

    Args:
        folder: to be written.
        overwrite: replace it where it exists, but for what is `KEPT` of it.

    Yields:
        The scratch folder, beside `folder`.

    Raises:
        InputError: where `folder` exists, or cannot be written.
    """
    if folder.exists() and not overwrite:
        raise InputError(
            f"{folder} exists: give another `output`, or `overwrite=True` to replace it"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder: give another `output`")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with scratch:
        new = Path(scratch.name) / "new"
        new.mkdir()
        yield new
        try:
            _put_in_place(new, folder)
        except OSError as error:
            raise _unwritable(folder, error) from error


def _put_in_place(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name("old")
    folder.rename(old)
    kept = [path.name for pattern in KEPT for path in old.glob(pattern)]
    moved = []
    try:
        for name in kept:
            (old / name).rename(new / name)
            moved.append(name)
        new.rename(folder)
    except OSError:
        for name in moved:
            (new / name).rename(old / name)
        old.rename(folder)
        raise


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {folder}: {error.strerror}")
