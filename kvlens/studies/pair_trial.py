"""Pair trial: embeddings judged by what people said of sentence pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from kvlens.evaluation.significance import Counts, spearman
from kvlens.studies.trials import PARTS, Items, Trial, Vectors, spread, unit_length
from kvlens.texts.pairs import Pairs


@dataclass(frozen=True)
class PairTrial(Trial):
    """Sentence pairs that people scored: Spearman x 100 of the cosines.

    Attributes:
        pairs: with their human scores.
    """

    pairs: Pairs
    kind = "pairs"

    @classmethod
    def parts(cls, pairs: Pairs, most: Sequence[int]) -> Iterator[PairTrial]:
        """Three trials of different pairs, each spread over the whole file.

        Args:
            pairs: all of them.
            most: pairs of each.
        """
        places = np.arange(len(pairs.scores)) % PARTS
        for wanted, n in zip(((0,), (1, 2), (3, 4)), most, strict=True):
            rows = np.flatnonzero(np.isin(places, wanted)).tolist()
            yield cls(_chosen(pairs, [rows[place] for place in spread(len(rows), n)]))

    def some(self, n: int) -> PairTrial:
        """`n` pairs, spread over all."""
        return PairTrial(_chosen(self.pairs, spread(self.n, n)))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Both sentences of every pair, each once."""
        return tuple(self.pairs.distinct)

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.pairs.scores)

    def items(self, vectors: Vectors) -> Float[np.ndarray, " n"]:
        """The cosine of each pair."""
        unit = unit_length(vectors)
        row_of = {text: row for row, text in enumerate(self.texts)}
        first = unit[[row_of[text] for text in self.pairs.first]]
        second = unit[[row_of[text] for text in self.pairs.second]]
        return (first * second).sum(1)

    def scores(self, items: Items, counts: Counts) -> Float[np.ndarray, "sets draws"]:
        """Spearman x 100."""
        return spearman(items, self.pairs.scores, counts)


def _chosen(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    return Pairs(
        tuple(pairs.first[row] for row in rows),
        tuple(pairs.second[row] for row in rows),
        pairs.scores[list(rows)],
    )
