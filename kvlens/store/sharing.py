"""Sharing: what threads need of an object that they share, without writing on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

Value = TypeVar("Value")


class PerObject(Generic[Value]):
    """One value for each object, made when it is first asked for, the same in every thread.

    It goes when the object goes. No copy of the object has it, deep or pickled.
    """

    def __init__(self, make: Callable[[], Value]):
        """Values that `make` makes."""
        self._make = make
        self._values: WeakKeyDictionary[Any, Value] = WeakKeyDictionary()
        self._making = threading.Lock()

    def of(self, thing: Any) -> Value:
        """The value of `thing`."""
        with self._making:
            if thing not in self._values:
                self._values[thing] = self._make()
            return self._values[thing]


lock_of = PerObject(threading.Lock).of
"""The lock of an object, for what only one thread at a time may do with it."""


class PerThread(Generic[Value]):
    """A value that each thread reads as it wrote it; one that wrote none, as it was written last.

    A copy, deep or pickled, has one value: that of the thread that copies.
    """

    def __init__(self, value: Value):
        """The value until one is written."""
        self._latest = value
        self._by_thread = threading.local()

    def get(self) -> Value:
        """This thread's value."""
        value: Value = getattr(self._by_thread, "value", self._latest)
        return value

    def set(self, value: Value) -> None:
        """Write this thread's value."""
        self._by_thread.value = value
        self._latest = value

    def __reduce__(self) -> tuple[type[PerThread[Value]], tuple[Value]]:
        return type(self), (self.get(),)
