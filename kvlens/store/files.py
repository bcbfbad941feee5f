"""Files: written whole or not at all; hashes of contents; where fetched things are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from platformdirs import user_cache_dir

from kvlens.store.errors import InputError


def cache_dir() -> Path:
    """Where fetched weights and texts are kept: ``$KVLENS_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("KVLENS_CACHE") or user_cache_dir("kvlens"))


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on any failure.

    Args:
        path: the file to write; its folder is made where it is missing.

    Yields:
        The temporary name.

    Raises:
        InputError: when the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            _make_readable(temporary)
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _make_readable(path: Path) -> None:
    """Give `path` the mode of a new file: safetensors' can be read by their owner alone."""
    usual = path.with_name("mode")
    usual.touch()
    shutil.copymode(usual, path)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all.

    Args:
        path: the file to write.
        text: its content.

    Raises:
        InputError: when the place cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_texts(texts: Iterable[str]) -> str:
    """The SHA-256 of a sequence of texts.

    Args:
        texts: in their order; a zero byte ends each, so that none can run into the next.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()
