"""State similarity: how much a layer's states say of the final embeddings, beside chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from kvlens.analysis.geometry import as_points, centred
from kvlens.analysis.similarity import FEWEST_ROWS, linear_cka, ridge_r2
from kvlens.store.artifact import Record
from kvlens.store.bounds import Count, Size

DRAWS = 5  # permutations behind a control


class Similarity(Record):
    """One layer's states against the embeddings of the same texts.

    Attributes:
        kind: hidden, k, k_pre or v.
        layer: block index.
        measure: cka (`linear_cka`) or r2 (`ridge_r2`).
        n: texts.
        value: of the measure.
        control: its mean when the embeddings' rows are permuted.
        control_sd: its standard deviation then.
    """

    kind: str
    layer: Count
    measure: Literal["cka", "r2"]
    n: Size
    value: float
    control: float
    control_sd: float


Measure = Callable[[Float[np.ndarray, "n p"], Float[np.ndarray, "n q"]], float]


@dataclass(frozen=True)
class Comparison:
    """The embeddings that states are compared with, and how chance is drawn.

    Attributes:
        sha256: of all embeddings.
        rows: one text for each distinct embedding, ascending.
        dropped: how many texts are left out.
        target: the distinct embeddings, centred.
        orders: permutations of their rows.
        probe: the kinds that get a ridge probe.
        seed: of its folds.
    """

    sha256: str
    rows: Int[np.ndarray, " n"]
    dropped: int
    target: Float[np.ndarray, "n columns"]
    orders: tuple[Int[np.ndarray, " n"], ...]
    probe: tuple[str, ...]
    seed: int

    @classmethod
    def of(
        cls, embeddings: Float[np.ndarray, "texts d"], probe: Sequence[str], seed: int
    ) -> Comparison:
        """The comparison with these embeddings; raises InputError where too few are distinct."""
        # A text in training and test folds at once would be recalled, not predicted.
        rows = np.sort(np.unique(embeddings, axis=0, return_index=True)[1])
        target = centred(as_points(embeddings[rows], FEWEST_ROWS, "distinct embeddings"))
        n = len(target)
        return cls(
            sha256=hashlib.sha256(embeddings.tobytes()).hexdigest(),
            rows=rows,
            dropped=len(embeddings) - n,
            target=target,
            orders=tuple(np.random.default_rng([seed, i]).permutation(n) for i in range(DRAWS)),
            probe=tuple(probe),
            seed=seed,
        )

    def similarities(
        self, kind: str, layer: int, states: Float[np.ndarray, "texts d"]
    ) -> Iterator[Similarity]:
        """The similarities of one layer's states."""
        X = centred(states[self.rows])
        yield self._similarity(kind, layer, "cka", linear_cka, X)
        if kind in self.probe:
            yield self._similarity(kind, layer, "r2", partial(ridge_r2, seed=self.seed), X)

    def _similarity(
        self,
        kind: str,
        layer: int,
        name: Literal["cka", "r2"],
        measure: Measure,
        X: Float[np.ndarray, "n columns"],
    ) -> Similarity:
        by_chance = [measure(X, self.target[order]) for order in self.orders]
        return Similarity(
            kind=kind,
            layer=layer,
            measure=name,
            n=len(X),
            value=measure(X, self.target),
            control=float(np.mean(by_chance)),
            control_sd=float(np.std(by_chance, ddof=1)),
        )
