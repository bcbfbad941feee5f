"""Endings: what is said, and the exit code, where a command does not come to its answer."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from kvlens.cli.signals import Stopped
from kvlens.cli.streams import Unheard, complain
from kvlens.store.errors import one_line

FAILED = 2
SIGPIPE = 13  # Windows has none
OF_A_SIGNAL = 128  # and its number: as shells count

# How a command goes on that keeps what it has finished.
GOES_ON = {
    "embed": "what is finished is kept: --resume goes on",
    "sweep": "what is finished is kept: --resume goes on",
    "evaluate": "finished tasks and vectors are kept: the same command goes on",
}


def stopped(stop: KeyboardInterrupt, arguments: Sequence[str]) -> int:
    """Tell that a command was stopped by a signal, and how it goes on.

    Args:
        stop: what ended it, when everything is cleaned up.
        arguments: of the command line.

    Returns:
        The exit code.
    """
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    what = f"stopped by {signal.Signals(number).name}"
    if number == signal.SIGINT:
        what = "interrupted"
    parts = [what, "nothing half-written was left"]
    command = next((each for each in arguments if not each.startswith("-")), "")
    if command in GOES_ON:
        parts.append(GOES_ON[command])
    complain(f"kvlens: {'; '.join(parts)}")
    return OF_A_SIGNAL + number


def unheard(error: Unheard) -> int:
    """Tell that standard output took no answer, and the answer itself; silent after ``| head``.

    Returns:
        The exit code.
    """
    if error.cut_off:
        return OF_A_SIGNAL + SIGPIPE
    complain(f"kvlens: cannot write to standard output: {error.reason}")
    for line in error.text.splitlines():
        complain(line)
    return FAILED


def reason(error: OSError) -> str:
    """What the system refused, and where."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or one_line(error)}"
