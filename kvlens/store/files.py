"""Files: written whole or not at all; hashes of contents; where fetched things are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_dir
from safetensors import SafetensorError

from kvlens.store.errors import InputError, one_line

if TYPE_CHECKING:
    from filelock import FileLock

KINDS_OF_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)

TRIES = 100  # to begin while other writers of the same target end


def cache_dir() -> Path:
    """Where fetched weights and texts are kept: ``$KVLENS_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("KVLENS_CACHE") or user_cache_dir("kvlens"))


def cache_folder(name: str) -> Path:
    """A folder of the cache, made where it is missing.

    Args:
        name: of the folder.

    Returns:
        The folder, which can be written.

    Raises:
        InputError: when it cannot.
    """
    folder = cache_dir() / name
    check_cache_folder(folder, "KVLENS_CACHE")
    remove_abandoned(folder)
    return folder


def check_cache_folder(folder: Path, variable: str) -> None:
    """Make the folder of a cache where it is missing.

    Args:
        folder: the folder.
        variable: of the environment, which names another one.

    Raises:
        InputError: when it cannot be made or written.
    """
    advice = f"set {variable} to a folder that can be written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot use the cache {folder} ({reason}): {advice}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into the cache {folder}: {advice}")


def writable_file(path: str | Path) -> Path:
    """Refuse a place where no file can be written; so cheap that it can come before the work.

    Args:
        path: a file to write; a symbolic link stands for what it leads to.

    Returns:
        The file itself, no link.

    Raises:
        InputError: for what exists and is no regular file, and a folder that cannot be written.
    """
    path = Path(path)
    try:
        target = path.resolve()
        kind = _kind(target)
        ancestor = next(folder for folder in target.parents if folder.exists())
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes
        raise unwritable(path, error) from error
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a file: give another name")
    if not ancestor.is_dir():
        raise InputError(f"cannot write {path}: {ancestor} is a file, not a folder")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: no permission to write into {ancestor}")
    return target


def _kind(target: Path) -> str | None:
    """What stands there that is no regular file; None for a file, and for nothing."""
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in KINDS_OF_FILES if is_kind(mode)), "a device")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on any failure.

    Args:
        path: the file to write; its folder is made where it is missing. A symbolic link stays,
            and what it leads to is written.

    Yields:
        The temporary name.

    Raises:
        InputError: when the place cannot be written.
    """
    target = writable_file(path)
    try:
        with scratch_folder(target) as folder:
            temporary = folder / target.name
            yield temporary
            _make_readable(temporary)
            os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A folder of this process alone beside `target`, removed at the end.

    What a killed process left there for the same target is removed first; what another process is
    writing now stays.

    Args:
        target: the file or folder that is made; its parent is made where it is missing.

    Yields:
        The folder, on the file system of `target`.
    """
    from filelock import FileLock

    home = scratch_home(target)
    lock = FileLock(home / f"{secrets.token_hex(4)}.lock")
    lock_file = Path(lock.lock_file)
    folder = lock_file.with_suffix("")
    try:
        _take(lock, home)
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        lock.release()
        _remove(folder, lock_file)
        _remove_if_empty(home)


def _take(lock: FileLock, home: Path) -> None:
    """Hold a new lock in `home`: from then on nobody else removes `home`."""
    for tries_left in reversed(range(TRIES)):
        try:
            home.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(home)
            lock.acquire()
            break
        except (FileNotFoundError, FileExistsError):  # another writer has just removed it
            if not tries_left:
                raise


def scratch_home(target: Path) -> Path:
    """Where the scratch folders of `target` are, beside it."""
    return target.with_name(f".{target.name}.kvlens")


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in a folder of files that they were writing.

    What another process is writing now stays, and so does all in a folder that cannot be written.

    Args:
        folder: what is below its folders stays.
    """
    with contextlib.suppress(OSError):
        for home in folder.glob(".*.kvlens"):
            _remove_abandoned(home)
            _remove_if_empty(home)


def _remove_if_empty(home: Path) -> None:
    """Remove a scratch home; where somebody else writes the same target, it is theirs."""
    with contextlib.suppress(OSError):
        home.rmdir()


def _remove_abandoned(home: Path) -> None:
    """Remove the scratch of processes that are no more: nobody holds its lock."""
    from filelock import FileLock, Timeout

    for lock_file in home.glob("*.lock"):
        with contextlib.suppress(Timeout, OSError), FileLock(lock_file, timeout=0):
            _remove(lock_file.with_suffix(""), lock_file)


def _remove(folder: Path, lock_file: Path) -> None:
    """Remove a scratch folder, its lock last: a folder is never there without one."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():  # else the next one tries again
        with contextlib.suppress(OSError):
            lock_file.unlink(missing_ok=True)


def link(old: str | Path, new: str | Path) -> None:
    """Give a file a second name; where the file system knows none, copy it."""
    try:
        os.link(old, new, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(old, new, follow_symlinks=False)


def unwritable(path: str | Path, error: BaseException) -> InputError:
    """The refusal of a place that cannot be written."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return InputError(f"cannot write {path}: {reason}")


def _make_readable(path: Path) -> None:
    """Give `path` the mode of a new file: safetensors' can be read by their owner alone."""
    usual = path.with_name("mode")
    usual.touch()
    shutil.copymode(usual, path)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all.

    Args:
        path: the file to write.
        text: its content; half of a surrogate pair, as in names of files that are not UTF-8, is
            written escaped.

    Raises:
        InputError: when the place cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TextsHash:
    """The SHA-256 of a sequence of texts, fed one by one: a zero byte ends each.

    Attributes:
        n: how many were fed.
    """

    def __init__(self) -> None:
        self.n = 0
        self._digest = hashlib.sha256()

    def add(self, text: str) -> None:
        """Feed the next text; none can run into the next."""
        self.n += 1
        self._digest.update(text.encode("utf-8", "surrogatepass"))
        self._digest.update(b"\0")

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._digest.hexdigest()


def sha256_texts(texts: Iterable[str]) -> str:
    """The SHA-256 of a sequence of texts, see `TextsHash`.

    Args:
        texts: in their order.

    Returns:
        64 hexadecimal digits.
    """
    texts_hash = TextsHash()
    for text in texts:
        texts_hash.add(text)
    return texts_hash.hexdigest()
