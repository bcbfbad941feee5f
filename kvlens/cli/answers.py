"""Answers: what a command has to say, for a program and for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.cli.streams import complain, write_out

if TYPE_CHECKING:
    from kvlens.checks.forecast import Forecast

_json_alone: ContextVar[bool] = ContextVar("json_alone", default=False)


@dataclass(frozen=True)
class Answer:
    """What a command has to say.

    Attributes:
        data: for --json: what `json.dumps` takes.
        text: for people; empty when everything was said before.
        code: exit code; 0: done, 1: a check failed.
        place: what was written: the settings go beside it, as ``PLACE.toml``. A folder that is
            swapped as a whole has them inside.
    """

    data: Any
    text: str
    code: int = 0
    place: Path | None = None


@contextmanager
def json_alone(alone: bool) -> Iterator[None]:
    """Within it, `say` is silent: the result stands alone on standard output."""
    token = _json_alone.set(alone)
    try:
        yield
    finally:
        _json_alone.reset(token)


def say(line: str) -> None:
    """Print a line for people now, before the answer: a result of a long job."""
    if not _json_alone.get():
        write_out(line)


def note(line: str) -> None:
    """Say on standard error what is worth knowing and no error."""
    complain(f"note: {line}")


def forecast_answer(forecast: Forecast) -> Answer:
    """The answer of a command that was only asked what it would take."""
    return Answer(forecast.data, f"{forecast}\nnothing was written")


def folder_answer(folder: Path, files: list[str], summary: str) -> Answer:
    """The answer of a command that wrote a folder.

    Args:
        folder: where.
        files: the names of what is in it.
        summary: what was found.

    Returns:
        The summary and the list of files.
    """
    written = f"written to {folder}: {', '.join(files)}"
    return Answer({"folder": str(folder), "files": files}, f"{summary}\n{written}")
