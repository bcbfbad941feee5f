"""Faults: what can happen right before or right after a change of the file system.

Every function by which Python changes names is wrapped, in the process that is to suffer: it counts
the calls, and at one of them the process is killed, interrupted, or told that the disk is full.
"""

import errno
import functools
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# `Path.rename`, `Path.mkdir`, `shutil.rmtree` and the like call these.
RENAMES = ("rename", "replace", "link", "symlink")
REMOVALS = ("unlink", "remove", "rmdir")
Side = Literal["before", "after"]
How = Literal["kill", "interrupt", "full"]
SIDES: tuple[Side, ...] = ("before", "after")
HOWS: tuple[How, ...] = ("kill", "interrupt", "full")


@dataclass(frozen=True)
class Call:
    """A change of a name that a command made.

    Attributes:
        number: how many calls came before it.
        function: the name of what was called.
        path: the name that is there, or no longer there, after it.
    """

    number: int
    function: str
    path: Path

    @property
    def is_seen(self) -> bool:
        """Whether it gives something a name that a user may look for."""
        hidden = any(part.startswith(".") for part in self.path.parts)
        return self.function in RENAMES and not hidden

    @property
    def removes(self) -> bool:
        """Whether it removes a name: whoever is stopped there may have been cleaning up."""
        return self.function in REMOVALS


@dataclass(frozen=True)
class Fault:
    """What happens at one call.

    Attributes:
        call: where.
        side: right before it, or right after.
        how: what happens.
    """

    call: Call
    side: Side
    how: How

    def strike(self) -> None:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def count_calls(log: Path) -> Callable[[], None]:
    """What wraps the functions so that each call is a line of `log`."""

    def arm() -> None:
        file = log.open("a", buffering=1)

        def note(number: int, function: str, path: Any) -> None:
            file.write(f"{number}\t{function}\t{os.path.abspath(path)}\n")

        _wrap(lambda number: None, note)

    return arm


def read_calls(log: Path) -> list[Call]:
    """What `count_calls` noted."""
    lines = [line.split("\t", 2) for line in log.read_text().splitlines()]
    return [Call(int(number), function, Path(path)) for number, function, path in lines]


def strike_at(fault: Fault) -> Callable[[], None]:
    """What wraps the functions so that the fault strikes at its call."""

    def on(side: Side, number: int) -> None:
        if (fault.side, fault.call.number) == (side, number):
            fault.strike()

    def arm() -> None:
        _wrap(lambda number: on("before", number), lambda number, *call: on("after", number))

    return arm


def _wrap(before: Callable[[int], None], after: Callable[[int, str, Any], None]) -> None:
    """Wrap every function: `after` is not called where it failed, as where a folder exists."""
    numbers = itertools.count()

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(path: Any, *args: Any, **options: Any) -> Any:
            named = args[0] if name in RENAMES else path
            number = next(numbers)
            before(number)
            result = function(path, *args, **options)
            after(number, name, named)
            return result

        return call

    for name in (*RENAMES, "mkdir", *REMOVALS):
        setattr(os, name, wrapped(name, getattr(os, name)))
