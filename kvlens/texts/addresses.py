"""Addresses: files that are elsewhere (s3://, https://, memory://, ...), opened by fsspec.

Nothing is fetched before a file is opened, and nothing of fsspec is imported for a local file.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kvlens.store.errors import InputError, one_line, shortened
from kvlens.texts.contents import READ_AT_A_TIME, ZIPPED, Unzipped

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: no drive of Windows
TYPED = re.compile(rf"(?P<flag>(--[\w-]+=)?)(?P<address>{SCHEME.pattern}\S+)")
SECRETS = re.compile(r"(?<=://)[^/@]*@|[?].*$")


def is_address(text: str) -> bool:
    """Whether a text is an address, and not the path of a local file."""
    return SCHEME.match(text) is not None


def public(address: str) -> str:
    """An address without what may be secret in it: user, password, and a signed query."""
    return SECRETS.sub("", address)


def public_word(word: str) -> str:
    """A word of a command line, an address perhaps behind its flag, as a result may record it."""
    typed = TYPED.fullmatch(word)
    return typed["flag"] + public(typed["address"]) if typed else word


@contextlib.contextmanager
def opened_address(address: str, path: Path) -> Iterator[IO[bytes] | Unzipped]:
    """The bytes of a file that is elsewhere.

    Args:
        address: of the file.
        path: its name, whose ending says whether it is unzipped.

    Yields:
        A binary file that can be read from any place, or `Unzipped`.

    Raises:
        InputError: when it cannot be opened or read, with the reason in a line.
    """
    try:
        # Buffered, since some file systems' own lines are cut out of megabytes each.
        with _open(address) as raw, io.BufferedReader(raw, READ_AT_A_TIME) as file:
            zipped = path.suffix.lower() in ZIPPED
            yield Unzipped(file, path.suffix, getattr(raw, "size", None)) if zipped else file
    except (InputError, OSError, EOFError):  # whose reader knows more of it
        raise
    except Exception as error:  # what the file systems raise shares no base
        reason = shortened(f"{type(error).__name__}: {one_line(error)}", 200)
        raise InputError(f"cannot be read: {reason}") from error


def _open(address: str) -> Any:
    import fsspec

    try:
        return fsspec.open(address, "rb").open()
    except ImportError as error:
        if not address.lower().startswith("http"):
            raise InputError(f"cannot be read here: {one_line(error)}") from error
    # What fsspec has for http beside aiohttp; it takes requests.
    from fsspec.implementations.http_sync import HTTPFileSystem

    return HTTPFileSystem().open(address, "rb")
