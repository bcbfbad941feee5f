"""Hubness: whether a few documents are near to most queries, whatever is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from heapq import nlargest

import numpy as np
from jaxtyping import Int

NEIGHBOURS = 10  # k of N_k, as in most of the paper

Counts = Int[np.ndarray, "n_documents"]
Rankings = Mapping[str, Mapping[str, float]]  # query id -> document id -> score


def hubness(rankings: Rankings, n_documents: int, k: int = NEIGHBOURS) -> float | None:
    """The skewness of N_k, how often a document is among the `k` first of a query.

    0: no more documents are asked for too often than too seldom; the larger, the fewer documents
    stand in the most rankings. Over all documents of the corpus, with the population's moments
    (Radovanovic et al. 2010, "Hubs in Space", JMLR 11, Section 2.2).

    Args:
        rankings: Of each query, the scores of the documents that were ranked for it, at least the
            `k` first.
        n_documents: How many the corpus has.
        k: How many of a ranking count.

    Returns:
        The skewness; None where every document is in as many rankings as any other.
    """
    from scipy.stats import skew

    counts = k_occurrences(rankings, n_documents, k)
    if len(set(counts.tolist())) < 2:
        return None
    return float(skew(counts))


def k_occurrences(rankings: Rankings, n_documents: int, k: int) -> Counts:
    """N_k of every document, the most frequent first."""
    times: Counter[str] = Counter()
    for scores in rankings.values():
        times.update(nlargest(k, scores, key=lambda document: scores[document]))
    counts = np.zeros(n_documents, dtype=int)
    counts[: len(times)] = sorted(times.values(), reverse=True)
    return counts
