"""Token labels: tokens as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvlens.store.sharing import lock_of

REPLACEMENT = "\ufffd"  # what a tokenizer decodes an unfinished character to
LONGEST = 12  # characters of a label


def readable_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token decoded.

    Args:
        tokenizer: of transformers.
        ids: of one text.

    Returns:
        A string a token; of a character that several tokens share, the last one shows it and the
        others are "…".
    """
    words: list[str] = []
    unfinished: list[int] = []
    for token in ids:
        character = [*unfinished, token]
        with lock_of(tokenizer):
            word = tokenizer.decode(character, clean_up_tokenization_spaces=False)
        unfinished = character if word.endswith(REPLACEMENT) else []
        words.append("…" if unfinished else word)
    return tuple(words)


def token_label(token: str, most: int = LONGEST) -> str:
    """A token for an axis.

    Args:
        token: as decoded.
        most: characters.

    Returns:
        The token with line ends and lone spaces visible, cut when long.
    """
    visible = token.replace("\n", "↵").replace("\t", "→").strip(" ")
    text = visible or "␣" * min(len(token), 3)
    return text if len(text) <= most else f"{text[: most - 1]}…"
