"""Notices: what is warned of while a command runs, a line each on standard error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from kvlens.cli.answers import note
from kvlens.store.errors import LONGEST_LINE, one_line
from kvlens.store.notices import Notice


@contextlib.contextmanager
def notices_told(worded: Callable[[str], str]) -> Iterator[None]:
    """Inside, a warning to the user is one line without its place in the code, and said once.

    Args:
        worded: makes the terminal's words of the library's.
    """
    told: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            line = worded(one_line(message, LONGEST_LINE))
            if not issubclass(category, UserWarning):
                show(message, category, *place, **options)
            elif line not in told:
                told.add(line)
                note(line)

        warnings.simplefilter("always", Notice)
        warnings.showwarning = tell
        yield
