"""Streams: standard output and error as a shell can give them: closed, full, ASCII, cut off."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from kvlens.store.errors import printable

STANDARD = ("stdin", "stdout", "stderr")


class Unheard(Exception):
    """Standard output does not take an answer.

    Attributes:
        reason: what the system says.
        text: the answer; empty when it is not known yet.
        cut_off: whether the reader went away, as ``head`` does when it has enough.
    """

    def __init__(self, error: OSError, text: str = ""):
        super().__init__(error.strerror or str(error))
        self.reason = error.strerror or str(error)
        self.text = text
        self.cut_off = isinstance(error, BrokenPipeError)


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Within it, standard streams take every character, and no file is taken for one of them.

    Raises:
        Unheard: when standard output is closed or full: nobody would get the answer.
    """
    closed = [name for name in STANDARD if getattr(sys, name) is None]
    if closed:
        _occupy_descriptors()
    for name in closed:
        mode = "r" if name == "stdin" else "w"
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if "stdout" in closed:
        raise Unheard(OSError(errno.EBADF, "it is closed"))
    _probe(sys.stdout)
    with _every_character(sys.stdout):
        try:
            yield
        finally:
            _flush_or_drop(sys.stdout)


def write_out(text: str) -> None:
    """Print an answer now.

    Args:
        text: lines; what a terminal would act on is shown escaped.

    Raises:
        Unheard: when standard output does not take it.
    """
    lines = "\n".join(printable(line) for line in text.split("\n"))
    try:
        print(lines, flush=True)
    except OSError as error:
        raise Unheard(error, lines) from error


def complain(line: str) -> None:
    """Print a line on standard error; where nobody listens, that is no reason to fail."""
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr, flush=True)


def _occupy_descriptors() -> None:
    """Open what is closed of the descriptors 0 to 2: else the next file would be one of them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _probe(stream: Any) -> None:
    """Raise Unheard for a stream that is known to take nothing, such as ``/dev/full``."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return  # no file of the system: a notebook's
    try:
        os.write(descriptor, b"")
    except OSError as error:
        raise Unheard(error) from error


@contextlib.contextmanager
def _every_character(stream: Any) -> Iterator[None]:
    """Within it, characters that the stream's encoding lacks are shown escaped."""
    before = getattr(stream, "errors", None)
    if before != "strict" or not hasattr(stream, "reconfigure"):
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


def _flush_or_drop(stream: Any) -> None:
    """Flush a stream; what it does not take is dropped, so that Python's exit is silent."""
    try:
        stream.flush()
    except ValueError:
        return
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
