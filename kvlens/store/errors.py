"""Errors: what the user gave cannot be used, said in one line.

A message names a parameter in backquotes, `` `overwrite=True` ``; the terminal makes a flag of it.
"""

from __future__ import annotations

LONGEST_REASON = 300  # characters of another library's error that a line of ours repeats


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do."""


def one_line(error: BaseException, limit: int = LONGEST_REASON) -> str:
    """What an exception of another library says, as the end of a line of ours.

    Args:
        error: any exception.
        limit: most characters.

    Returns:
        The first line with words in it, or the exception's class where there is none.
    """
    lines = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), type(error).__name__)
    return first if len(first) <= limit else f"{first[: limit - 1]}…"
