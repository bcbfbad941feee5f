"""Peak memory: the most resident memory of a process, sampled in a thread."""

from __future__ import annotations

import threading
from typing import Self

import psutil

INTERVAL = 0.02  # seconds


class PeakMemory:
    """A context that watches a process.

    Attributes:
        bytes: the most resident memory so far.
    """

    def __init__(self, process: psutil.Process):
        self.process = process
        self.bytes = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.stop.wait(INTERVAL):
            self.bytes = max(self.bytes, self.process.memory_info().rss)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
