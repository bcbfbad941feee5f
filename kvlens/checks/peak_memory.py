"""Peak memory: the most memory of a process, sampled in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

import psutil

INTERVAL = 0.02  # seconds; what is private takes the kernel milliseconds to count
LONG_INTERVAL = 0.2


def resident(process: psutil.Process) -> int:
    """The bytes of a process that are in memory, mapped files among them."""
    return process.memory_info().rss


def private(process: psutil.Process) -> int:
    """The bytes that would be free without the process (USS)."""
    return process.memory_full_info().uss


class PeakMemory:
    """A context that watches a process.

    Attributes:
        bytes: the most memory so far.
    """

    def __init__(
        self, process: psutil.Process, measure: Callable[[psutil.Process], int] = resident
    ):
        self.process = process
        self.measure = measure
        self.interval = INTERVAL if measure is resident else LONG_INTERVAL
        self.bytes = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(self.interval):
            try:
                self.bytes = max(self.bytes, self.measure(self.process))
            except psutil.Error:  # it has ended
                return

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
