"""Signals: SIGTERM and SIGHUP end a command as Ctrl-C does, with everything cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
AGAIN = 0.05  # seconds until a signal that was swallowed comes again


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within it, in the main thread, SIGTERM and SIGHUP raise `Stopped`.

    A signal that is ignored (``nohup``), or has a handler already, is left alone; afterwards all is
    as it was. Compiled code that cannot raise swallows what a handler raises: it comes again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Stopped(number)
        # A child that was forked meanwhile ends as it would without kvlens.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    unhandled = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in unhandled:
            signal.signal(number, stop)
        with _come_again():
            yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _come_again() -> Iterator[None]:
    """Within it a signal whose exception was swallowed is sent again, in silence."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt):
            before(unraisable)
            return
        number = getattr(error, "number", signal.SIGINT)
        threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
