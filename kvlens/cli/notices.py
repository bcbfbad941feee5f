"""Notices: what is warned of while a command runs, a line each on standard error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from kvlens.cli.answers import note
from kvlens.store.errors import LONGEST_LINE, one_line
from kvlens.store.notices import Notice


@contextlib.contextmanager
def notices_told() -> Iterator[None]:
    """Inside, a warning to the user is one line without its place in the code."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, UserWarning):
                note(one_line(message, LONGEST_LINE))
            else:
                show(message, category, *place, **options)

        warnings.simplefilter("always", Notice)
        warnings.showwarning = tell
        yield
