"""Own words: which tokens of a vocabulary are words of a text.

A token is one of a text's own words where one of the text's tokens (without the prompt's) is the
same but for case and white space around it: " Rain", "rain" and "RAIN" are one word. Tokens without
a letter or digit and the tokenizer's special ones are no words, and belong to no text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from kvlens.analysis.token_labels import REPLACEMENT
from kvlens.store.sharing import lock_of
from kvlens.texts.tokens import TokenizedText


class Words:
    """The tokens of a tokenizer as words; each is decoded once."""

    def __init__(self, tokenizer: Any):
        """Those of a tokenizer of transformers."""
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        self._strings: dict[int, str] = {}

    def string(self, token: int) -> str:
        """A token as text; a part of a character as the tokenizer writes it."""
        if token not in self._strings:
            self._strings[token] = self._decoded(token)
        return self._strings[token]

    def word(self, token: int) -> str:
        """What it has in common with its other spellings; empty where it is no word."""
        if token in self._special:
            return ""
        word = self.string(token).strip().casefold()
        return word if any(letter.isalnum() for letter in word) else ""

    def _decoded(self, token: int) -> str:
        with lock_of(self._tokenizer):
            string = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
            if REPLACEMENT in string or not string:
                string = self._tokenizer.convert_ids_to_tokens(token)
        return string or f"[{token}]"  # a model may know more tokens than its tokenizer


class OwnWords:
    """The words of some texts."""

    def __init__(self, words: Words, texts: Sequence[TokenizedText]):
        """Those of tokenized texts, without their prompt."""
        self._words = words
        spans = [text.ids[text.span[0] : text.span[1]] for text in texts]
        self._own = [{words.word(token) for token in span} - {""} for span in spans]
        self._n_texts = Counter(word for own in self._own for word in own)

    def own(self, tokens: Int[np.ndarray, "n top"]) -> Bool[np.ndarray, "n top"]:
        """Which tokens are words of the text of their row."""
        pairs = zip(tokens.tolist(), self._own, strict=True)
        return np.array([[self._words.word(token) in own for token in row] for row, own in pairs])

    def others(self, tokens: Int[np.ndarray, "n top"]) -> Float[np.ndarray, "n top"]:
        """Of the other texts, the share whose word each token is: what is expected by chance.

        Args:
            tokens: a row a text, of at least two.
        """
        rows = tokens.tolist()
        counts = [[self._n_texts[self._words.word(token)] for token in row] for row in rows]
        return (np.array(counts) - self.own(tokens)) / (len(self._own) - 1)
