"""Pair score: rank correlation of cosine similarities with human judgements of sentence pairs.

A quick look for choosing settings on validation data; a task of mteb is scored in `run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.together import raw_together
from kvlens.evaluation.significance import Values, draws, interval, spearman
from kvlens.store.progress import Progress, silent
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
    (score,) = score_together([encoder], pairs, progress)
    return score


def score_together(
    encoders: Sequence[Encoder], pairs: Pairs, progress: Progress | None = None
) -> list[PairScore]:
    """`score_pairs` of encoders that share a forward pass, which is run once.

    Args:
        encoders: Of one pass, see `kvlens.embedding.together.share_a_pass`.
        pairs: The pairs with their human scores.
        progress: Called with (done, all) distinct texts.

    Returns:
        The score of each, equal to that of a single run.
    """
    texts = pairs.distinct
    raw = raw_together(encoders, texts, "document", progress or silent)
    row_of = {text: row for row, text in enumerate(texts)}
    first, second = ([row_of[text] for text in side] for side in (pairs.first, pairs.second))
    scores = []
    for encoder, vectors in zip(encoders, raw, strict=True):
        unit = encoder.finish(torch.from_numpy(vectors), unit=True).numpy()
        scores.append(_score((unit[first] * unit[second]).sum(1), pairs.scores))
    return scores


def _score(cosines: Values, human: Values) -> PairScore:
    n = len(human)
    once_each = np.ones((1, n))
    low, high = interval(spearman(cosines[None], human, draws(n))[0])
    return PairScore(
        spearman=float(spearman(cosines[None], human, once_each)[0, 0]),
        low=float(low),
        high=float(high),
        n=n,
    )
