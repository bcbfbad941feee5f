"""Stability: in which share of random halves of the texts a rule takes each layer.

A rule is applied to each draw of `kvlens.dimension.draws` as to the whole profile, whose standard
errors it keeps: a half differs from the whole as much as other texts would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kvlens.store.artifact import Record
from kvlens.store.bounds import Size
from kvlens.store.layer_ranges import phrase

UNKNOWN = "unknown: the profile has no draws, profile again"
SELDOM = 0.5  # a chosen layer below it would more often than not be another with other texts

Share = Annotated[float, Field(gt=0, le=1)]


class Stability(Record):
    """How often a rule takes each layer.

    Attributes:
        draws: random halves of the texts.
        n: texts of each.
        taken: layer -> share of the draws in which it is taken; layers that never are, are left
            out.
    """

    draws: Size
    n: Size
    taken: dict[int, Share]

    @classmethod
    def of(cls, choices: Sequence[Sequence[int]], n: int) -> Stability:
        """What was chosen from each draw, one at least, of n texts each."""
        counts = Counter(layer for layers in choices for layer in layers)
        taken = {layer: counts[layer] / len(choices) for layer in sorted(counts)}
        return cls(draws=len(choices), n=n, taken=taken)

    def share(self, layer: int) -> float:
        """In which share of the draws a layer is taken."""
        return self.taken.get(layer, 0.0)

    def seldom(self, layers: Sequence[int]) -> list[int]:
        """Those of the layers that are taken in less than half of the draws."""
        return [layer for layer in layers if self.share(layer) < SELDOM]

    def of_choice(self, layers: Sequence[int]) -> str:
        """The shares of the chosen layers, and of the most frequent other, in words."""
        words = f"{self.shares(layers)} of {self.draws} draws of {self.n} texts"
        others = [layer for layer in self.taken if layer not in layers]
        if not others:
            return words
        rival = max(others, key=self.share)
        return f"{words}; of the others most often {self.shares([rival])}"

    def shares(self, layers: Sequence[int]) -> str:
        """Layers of equal shares together, the most frequent first."""
        by_percent: dict[str, list[int]] = {}
        for layer in sorted(layers, key=lambda layer: (-self.share(layer), layer)):
            by_percent.setdefault(f"{100 * self.share(layer):.0f} %", []).append(layer)
        return ", ".join(f"{phrase(alike)} in {percent}" for percent, alike in by_percent.items())
