"""Notices: what a user should know, said in one line while the work goes on."""

from __future__ import annotations

import warnings

from kvlens.store.errors import printable, shortened


class Notice(UserWarning):
    """Something was not as it should be, and was made good; the terminal shows it as a line."""


def notice(text: str) -> None:
    """Warn whoever called what calls this.

    Args:
        text: what is the matter and what is done about it.
    """
    warnings.warn(shortened(printable(text)), Notice, stacklevel=3)
