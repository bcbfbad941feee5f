"""Preparation: a text made ready for the quotation marks of a prompt."""

from __future__ import annotations

ENDS = (".", "?", '"', "'")  # after which no full stop is put


def prepared(text: str) -> str:
    """A text as the authors of quoted prompts put it between the marks, in three steps.

    1. It ends in a full stop, unless it ends in one of ``. ? " '``.
    2. Every double quote becomes a single one: one in the text would close the prompt's.
    3. A question mark at its end becomes a full stop.

    Done twice it is the same. Read in the code of PromptEOL (arXiv:2307.16645) and Token Prepending
    (arXiv:2412.11556); MetaEOL, CoT and KE (arXiv:2404.03921) have it, too.

    Args:
        text: as it was given.

    Returns:
        The text, at most one character longer.
    """
    ended = text if text.endswith(ENDS) else f"{text}."
    single = ended.replace('"', "'")
    return f"{single[:-1]}." if single.endswith("?") else single
