"""Probe batch: two short texts of tokens from all over a vocabulary, to try a model on."""

from __future__ import annotations

from typing import Literal

from kvlens.models.language_model import LanguageModel
from kvlens.texts.batches import TokenBatch, pad
from kvlens.texts.tokens import TokenizedText

LENGTHS = (12, 3)
"""Tokens of the texts."""
STRIDE = 7919
"""From one token id to the next, modulo the vocabulary: a prime, so that they differ."""

SIDES: tuple[Literal["right", "left"], ...] = ("right", "left")


def probe_batch(lm: LanguageModel, side: str) -> TokenBatch:
    """The batch, padded on one side."""
    texts = []
    for length in LENGTHS:
        ids = tuple((1 + STRIDE * (length + i)) % lm.info.vocab_size for i in range(length))
        texts.append(TokenizedText(ids, (0, length), False))
    return pad(texts, range(len(texts)), lm.tokenizer.pad_token_id, side, lm.device)
