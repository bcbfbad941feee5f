"""Pair score: rank correlation of cosine similarities with human judgements of sentence pairs.

A quick look for choosing settings on validation data; a task of mteb is scored in `run`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvlens.embedding.encoder import Encoder
from kvlens.evaluation.significance import draws, interval, spearman
from kvlens.store.progress import Progress
from kvlens.texts.pairs import Pairs


@dataclass(frozen=True)
class PairScore:
    """Spearman's correlation of cosines with human scores.

    Attributes:
        spearman: x 100.
        low: Lower end of its bootstrap 95 % interval over pairs (1,000 draws, seeded).
        high: Upper end.
        n: How many pairs.
    """

    spearman: float
    low: float
    high: float
    n: int


def score_pairs(encoder: Encoder, pairs: Pairs, progress: Progress | None = None) -> PairScore:
    """Embed both sides with the document prompt, as for any symmetric task, and correlate.

    Args:
        encoder: What embeds.
        pairs: The pairs with their human scores.
        progress: Called with (done, all) distinct texts.
    """
    texts = [*pairs.first, *pairs.second]
    vectors = encoder.encode_document(texts, normalize_embeddings=True, progress=progress)
    n = len(pairs.scores)
    cosines = (vectors[:n] * vectors[n:]).sum(1)[None]
    once_each = np.ones((1, n))
    low, high = interval(spearman(cosines, pairs.scores, draws(n))[0])
    return PairScore(
        spearman=float(spearman(cosines, pairs.scores, once_each)[0, 0]),
        low=float(low),
        high=float(high),
        n=n,
    )
