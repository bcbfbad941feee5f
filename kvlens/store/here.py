"""Here: what a name that was recorded means on this machine; the rooms above look it up."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PARENTS = 3  # of a result's folder: runs/A+B/A lies three below the folder of the command


@dataclass(frozen=True)
class Here:
    """What stands behind a recorded name now.

    Attributes:
        content: its revision or hash; None where it cannot be told.
        exists: whether there is anything of that name.
        note: why it cannot be told, or what else there is to know; may be empty.
        place: where it was found; None where it was not, or is no file or folder.
    """

    content: str | None
    exists: bool
    note: str = ""
    place: Path | None = None


def bases_of(folder: Path) -> tuple[Path, ...]:
    """Where a relative name that a result recorded may begin.

    Args:
        folder: that of the result.

    Returns:
        The working folder, the result's own, and those above it.
    """
    folder = folder.resolve()
    return (Path(), folder, *folder.parents[:PARENTS])


def places_of(name: str, bases: Sequence[Path]) -> list[Path]:
    """The files and folders that a recorded path can mean, resolved, in the order of `bases`.

    Args:
        name: as it was recorded; an absolute path stands for itself.
        bases: the folders from which a relative one is tried.
    """
    places = []
    for base in bases:
        # A recorded name may be anything: of an unknown user, with a zero byte, too long.
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            place = base / Path(name).expanduser()
            if place.exists():
                places.append(place.resolve())
    return list(dict.fromkeys(places))
