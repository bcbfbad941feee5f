"""Swap: a finished folder takes the place of an old one; whenever it is killed, one stands whole.

1. A mark is left in the scratch home: an empty file called as the old folder is going to be.
2. ``NAME`` becomes ``NAME.before``, which anybody can see, and the new folder becomes ``NAME``.
3. ``NAME.before`` goes into the scratch and is deleted with it; the mark goes.

A failure puts ``NAME.before`` back. What a killed process left, the mark tells the next one: a
folder that only happens to be called ``NAME.before`` has none, and is never touched.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from kvlens.cli.answers import note
from kvlens.store.errors import InputError
from kvlens.store.files import remove_abandoned, scratch_folder, scratch_home, unwritable


def swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`, which is deleted when `new` stands.

    Args:
        new: inside the scratch folder of `folder`.
        folder: no symbolic link; it is this process's `turn` to change it.

    Raises:
        InputError: when `folder` cannot be replaced; it is there as before, or the message says
            where.
    """
    before = free_name(folder, "before")
    mark = scratch_home(folder) / before.name
    try:
        mark.touch()
        folder.rename(before)
        new.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        places = (folder, before, new.with_name("old"), mark)
        try:
            _settle(*places)
        except KeyboardInterrupt:  # it is short: a stop waits until it is done
            _settle(*places)
            raise


def _settle(folder: Path, before: Path, old: Path, mark: Path) -> None:
    """Whatever happened: `folder` stands, and what was before it goes if that is the new one."""
    if not folder.exists():
        _put_back(before, folder)
    elif before.exists():
        try:
            before.rename(old)
        except OSError:
            note(_told(before, folder))
            return
    mark.unlink(missing_ok=True)


def recover(path: Path) -> None:
    """Mend what a killed swap left of `path` or a folder around it, and say so.

    A folder that is missing is put back; where the new one stands, the old one is only told of.
    What killed processes left in `path` of files that they were writing is removed.

    Args:
        path: that is going to be read or written; it need not exist.

    Raises:
        InputError: when a folder cannot be put back.
    """
    try:
        place = path.resolve()
    except (OSError, RuntimeError, ValueError):  # who uses the path tells it better
        return
    for folder in (*reversed(place.parents), place):
        if folder.name and os.path.isdir(scratch_home(folder)):
            _recover(folder)
    remove_abandoned(place)


def _recover(folder: Path) -> None:
    """Mend what a killed swap left of one folder, and remove what it had not finished."""
    try:
        with turn(folder):
            for mark in _marks(folder):
                _follow(mark, folder)
        with scratch_folder(folder):
            pass  # it removes what killed processes left
    except OSError:
        return  # a place that can only be read: what stands there can be read all the same


def _follow(mark: Path, folder: Path) -> None:
    """Do what one mark asks for."""
    before = folder.with_name(mark.name)
    if folder.exists() and before.exists():
        note(_told(before, folder))
        return
    if before.exists():
        _put_back(before, folder)
        note(f"{folder} was about to be replaced when a run was killed: it is back as it was")
    mark.unlink(missing_ok=True)


def _put_back(before: Path, folder: Path) -> None:
    try:
        before.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"cannot put {folder} back ({reason}): it is whole in {before}, rename that"
        ) from error


def _told(before: Path, folder: Path) -> str:
    return (
        f"{before} is what {folder} was before it was replaced, left by a run that was stopped: "
        "rename it to keep it, or delete it"
    )


def _marks(folder: Path) -> list[Path]:
    """The marks of swaps that were not finished, the newest first."""
    marks = [
        path
        for path in scratch_home(folder).iterdir()
        if path.name.startswith(f"{folder.name}.before")
    ]
    return sorted(marks, key=lambda mark: mark.stat().st_mtime_ns, reverse=True)


def free_name(folder: Path, word: str) -> Path:
    """``NAME.WORD`` beside a folder, or ``NAME.WORD-2`` where that is taken, and so on."""
    place = folder.with_name(f"{folder.name}.{word}")
    numbers = itertools.count(2)
    while os.path.lexists(place):
        place = folder.with_name(f"{folder.name}.{word}-{next(numbers)}")
    return place


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Within it, no other process swaps `folder` or puts it back: they take turns."""
    from filelock import FileLock

    lock_file = scratch_home(folder) / "swap.lock"
    with FileLock(lock_file):
        try:
            yield
        finally:
            lock_file.unlink(missing_ok=True)
