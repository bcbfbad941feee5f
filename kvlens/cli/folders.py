"""Folders: a command's output folder is there whole, or as it was before."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from kvlens.cli.settings import write_settings
from kvlens.cli.swap import free_name, recover, swap, turn
from kvlens.store.errors import InputError
from kvlens.store.files import link, scratch_folder, unwritable, writable_file

# What kvlens writes: one of these makes an existing folder one of its own.
OURS = (
    "profile.json",
    "trace.json",
    "layers.json",
    "layer_id.*",
    "patterns.safetensors",
    "shift.safetensors",
    "kv_lens.json",
    "low_rank.json",
    "word_lens.json",
    "id_*.json",
    "geometry.json",
    "sweep.json",
    "study.json",
    "readout.json",
    "decision.json",
    "effects.json",
    "probe_tokens.json",
    "scores*.json",
    "results/kvlens__*",
    "limit-*/results",
    "comparison.html",
    "data/*_*.json",
    "data/*_*.safetensors",
)

SCRATCH = ".*.kvlens"  # what writing a file leaves when it is killed


def check_new_file(file: Path, overwrite: bool) -> None:
    """Refuse, before the work, a file that exists or cannot be written.

    Args:
        file: that is going to be written.
        overwrite: replace an existing one.

    Raises:
        InputError: for what cannot be written or may not be touched.
    """
    recover(file.parent)
    writable_file(file)
    if file.exists() and not overwrite:
        raise InputError(f"{file} exists: give another `output`, or `overwrite=True` to replace it")


def run_name(model: str) -> str:
    """The name of a model's runs: the last part of its id or path, without ``.gguf``."""
    return Path(model.rstrip("/")).name.removesuffix(".gguf")


def run_folder(*models: str, suffix: str = "") -> Path:
    """Where a command writes unless it is told: ``runs/MODEL``, ``runs/MODEL+MODEL``."""
    return Path("runs") / ("+".join(map(run_name, models)) + suffix)


@contextlib.contextmanager
def output_folder(folder: Path, overwrite: bool, writes: Sequence[str]) -> Iterator[Path]:
    """A scratch folder that becomes `folder` on success and vanishes on failure.

    Args:
        folder: to be written; a symbolic link stands for what it leads to.
        overwrite: replace it where it exists, but for what is in it besides `writes`: hours of
            work of `evaluate` and `sweep`, each saved with all that decides it, and files of the
            user.
        writes: patterns of the names that the command writes, or whose content is no longer true
            when it has written.

    Yields:
        The scratch folder, beside `folder`.

    Raises:
        InputError: where `folder` exists, is none of kvlens, or cannot be written.
    """
    recover(folder)
    target = _checked(folder, overwrite)
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_folder(target))
            new = scratch / "new"
            new.mkdir()
        except OSError as error:
            raise unwritable(folder, error) from error
        with _said_of(folder, new):
            yield new
            write_settings(new)
        try:
            with turn(target):
                _put_in_place(new, target, overwrite, writes)
        except OSError as error:
            raise unwritable(folder, error) from error


@contextlib.contextmanager
def _said_of(folder: Path, new: Path) -> Iterator[None]:
    """Within it, a refusal names `folder` where it would name the scratch folder `new`."""
    try:
        yield
    except InputError as error:
        message = str(error)
        if str(new) not in message:
            raise
        raise InputError(message.replace(str(new), str(folder))) from error


def _checked(folder: Path, overwrite: bool) -> Path:
    """The folder itself, no link to it; raises InputError where it may not be written."""
    try:
        target = folder.resolve()
        exists = target.exists()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes
        raise unwritable(folder, error) from error
    if not exists:
        return target
    if not overwrite:
        raise InputError(
            f"{folder} exists: give another `output`, or `overwrite=True` to replace it"
        )
    problem = _no_replacing(target)
    if problem:
        raise InputError(f"{folder} {problem}: give another `output`")
    return target


def _no_replacing(folder: Path) -> str:
    """Why a folder that exists cannot be replaced; empty where it can."""
    if not folder.is_dir():
        return "is no folder"
    if any(folder.iterdir()) and not _is_ours(folder):
        return "is not a folder of kvlens"
    if os.path.ismount(folder):
        return "is a mounted file system"
    if Path.cwd().is_relative_to(folder):
        return "holds the folder that you are in"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    return ""


def _is_ours(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in OURS)


def _put_in_place(new: Path, folder: Path, overwrite: bool, writes: Sequence[str]) -> None:
    if not folder.exists():
        new.rename(folder)
    elif overwrite:
        _keep_the_rest(folder, new, writes)
        swap(new, folder)
    else:  # another process was quicker; this one's work is as good
        other = free_name(folder, "new")
        new.rename(other)
        raise InputError(f"{folder} was written by another process meanwhile: this run is {other}")


def _keep_the_rest(old: Path, new: Path, writes: Sequence[str]) -> None:
    """Have all that `old` holds in `new`, too, but for what the command writes.

    Files get a second name, so that the old folder stays whole until it is gone.
    """
    for entry in old.iterdir():
        copy = new / entry.name
        is_folder = entry.is_dir() and not entry.is_symlink()
        inside = _inside(entry.name, writes)
        if is_folder and inside:
            _keep_the_rest(entry, copy, inside)
        elif is_folder and copy.is_dir():  # of one model of several
            _keep_the_rest(entry, copy, writes)
        elif os.path.lexists(copy) or _matches(entry.name, (*writes, SCRATCH)):
            continue
        elif is_folder:
            shutil.copytree(entry, copy, symlinks=True, copy_function=link)
        else:
            new.mkdir(parents=True, exist_ok=True)
            link(entry, copy)


def _inside(name: str, patterns: Sequence[str]) -> list[str]:
    """The patterns of what is in the folder `name`, without its name."""
    return [
        pattern.removeprefix(f"{name}/") for pattern in patterns if pattern.startswith(f"{name}/")
    ]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
