"""Progress: how a long job tells how far it is; who calls the job draws it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

Bars = Callable[[str], AbstractContextManager[Progress]]
"""What is being done -> a context that gives a `Progress` for it."""


def silent(done: int, total: int) -> None:
    """A `Progress` that tells nobody."""


def silent_bar(what: str) -> AbstractContextManager[Progress]:
    """A `Bars` whose bars tell nobody."""
    return nullcontext(silent)


def part_of(progress: Progress, before: int, total: int) -> Progress:
    """The `Progress` of a stretch of a longer job.

    Args:
        progress: of the whole job.
        before: how many were done before the stretch begins.
        total: how many the whole job has.

    Returns:
        A `Progress` whose own total is not looked at.
    """

    def tell(done: int, stretch: int) -> None:
        progress(before + done, total)

    return tell
