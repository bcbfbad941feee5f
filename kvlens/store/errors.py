"""Errors: what the user gave cannot be used, said in one line.

A message names a parameter in backquotes, `` `overwrite=True` ``; the terminal makes a flag of it.
"""

from __future__ import annotations

LONGEST_LINE = 299  # characters of a refusal that quotes a file's content or another library
LONGEST_REASON = 160  # characters of another library's error that a line of ours repeats


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says why and what to do.

    Names of files and contents of files get into messages: what could move a terminal's cursor or
    break the line is shown escaped.
    """

    def __init__(self, message: str):
        """An error.

        Args:
            message: what is wrong and what to do.
        """
        super().__init__(printable(message))


def printable(text: str) -> str:
    """`text` in one line; characters that a terminal would act on are shown escaped."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, limit: int = LONGEST_LINE) -> str:
    """`text`, cut at its end where it has more than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


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
    return shortened(printable(first), limit)
