"""Contents: the bytes of a file of texts, unzipped where it ends in .gz or .zst, with bounds.

A few zipped bytes can stand for gigabytes, and a file without line ends is one line: what a reader
holds at a time stays in proportion to the file.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol

from kvlens.store.errors import InputError

LONGEST_LINE = 2**28  # bytes: 256 MiB
UNZIPPED_ANYWAY = 2**28  # bytes, however small the zipped file
LARGEST_RATIO = 200  # of the unzipped size to the zipped one; prose has 3, a table up to 50
READ_AT_A_TIME = 2**20  # bytes


class Source(Protocol):
    """What lines are read of: a file, standard input, or what a zipped file holds."""

    def readline(self, size: int, /) -> bytes:
        """The next line, at most `size` bytes of it; empty at the end."""


def _zstd(file: IO[bytes]) -> Any:
    import pyarrow as pa  # a tenth of a second, for these files alone

    return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))


ZIPPED: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    ".zst": _zstd,
}
"""Ending of a zipped file -> what unzips it."""


class Unzipped:
    """What a zipped file holds, up to a bound; at its end it closes that file.

    Raises:
        InputError: from every reading, once more has been unzipped than a file of its size holds.
    """

    def __init__(self, file: IO[bytes], ending: str, n_bytes: int | None):
        """What is in a file.

        Args:
            file: the zipped bytes.
            ending: of `ZIPPED`.
            n_bytes: how many there are; None: unknown.
        """
        self._most = max(UNZIPPED_ANYWAY, LARGEST_RATIO * (n_bytes or 0))
        self._zipped = file
        self._file = ZIPPED[ending.lower()](file)
        self._n_read = 0

    def __enter__(self) -> Unzipped:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.close()
        self._zipped.close()

    def readline(self, size: int, /) -> bytes:
        """The next line, at most `size` bytes of it; empty at the end."""
        return self._counted(self._file.readline(size))

    def everything(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: self._counted(self._file.read(READ_AT_A_TIME)), b""))

    def _counted(self, content: bytes) -> bytes:
        self._n_read += len(content)
        if self._n_read > self._most:
            raise InputError(
                f"unzips to more than {self._most >> 20} MiB, out of proportion to its size; "
                "unzip it first"
            )
        return content


def opened(path: Path, from_standard_input: bool) -> AbstractContextManager[Any]:
    """The bytes of a file, or of standard input, as a context.

    Args:
        path: with an ending of `ZIPPED` it is unzipped.
        from_standard_input: whether `path` does not count.

    Returns:
        A context of a binary file, or of `Unzipped`.
    """
    if from_standard_input:
        return nullcontext(sys.stdin.buffer)
    if path.suffix.lower() in ZIPPED:
        return Unzipped(open(path, "rb"), path.suffix, path.stat().st_size)
    return open(path, "rb")


def lines(file: Source | IO[bytes]) -> Iterator[tuple[int, str]]:
    """The lines of UTF-8 text, without a byte order mark, with their ends.

    Args:
        file: where they are read, one at a time.

    Yields:
        (number from 1, text).

    Raises:
        InputError: with the line, for one that is not UTF-8 or longer than `LONGEST_LINE`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise InputError(f"line {number} is longer than {LONGEST_LINE >> 20} MiB")
        yield number, _decoded(line, number)


def _decoded(line: bytes, number: int) -> str:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"line {number} is not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None
    # UTF-16 of plain letters, without its mark, is UTF-8 too: every second character is zero.
    if number == 1 and text.count("\0") > 1 and text.count("\0") >= len(text) // 2 - 1:
        raise InputError("line 1 looks like UTF-16; save the file as UTF-8")
    return text
