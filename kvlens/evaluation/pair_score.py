"""Pair score: Spearman correlation of cosine similarities with human judgements of sentence pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kvlens.embedding.encoder import Encoder
from kvlens.evaluation.significance import draws, spearman
from kvlens.texts.pairs import Pairs


@dataclass(frozen=True)
class Score:
    """Spearman correlation x 100 with its bootstrap 95 % interval over pairs (1,000 draws, seeded)."""

    spearman: float
    low: float
    high: float
    n: int


def score(
    encoder: Encoder, pairs: Pairs, progress: Callable[[int, int], None] | None = None
) -> Score:
    """Embed both sides with the document prompt, as for any symmetric task, and correlate."""
    vectors = encoder.encode_document(
        [*pairs.first, *pairs.second], normalize_embeddings=True, progress=progress
    )
    n = len(pairs.scores)
    cosines = (vectors[:n] * vectors[n:]).sum(1)
    low, high = np.percentile(spearman(cosines[None], pairs.scores, draws(n)), (2.5, 97.5))
    return Score(
        float(spearman(cosines[None], pairs.scores, np.ones((1, n)))[0, 0]),
        float(low),
        float(high),
        n,
    )
