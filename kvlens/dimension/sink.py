"""Sink: which block writes position 0's massive activation, b*.

Almost every trained decoder has one: position 0 attends to itself alone, a block makes its state
many times as long as any other, and later layers rest their attention there. Numbers come from
`kvlens.tracing.position_zero`.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from kvlens.store.artifact import Record
from kvlens.store.bounds import Size

# Position 0 is massive where it is so many times as long as the median of the other tokens. Sun et
# al. 2024 (arXiv:2402.17762, section 2) ask for one number of 1,000 times the median magnitude: in
# a normally spread state of their width 4,096 that is 1,000 / (1.48 * sqrt(4096)) = 10.5 lengths.
# The random models of the tests stay below 3 in every text; SmolLM2-135M reaches 148, Gemma 3 270M
# 28 (40 passages each).
MASSIVE = 10.0

Ratio = Annotated[float, Field(ge=0)]


class Sink(Record):
    """The block that writes position 0's massive activation, in most texts.

    Attributes:
        block: 0-based block index; None: most texts have no massive activation.
        before: length of position 0's state over the median of the other tokens, before the block;
            median over the texts that agree. Without a block, at each text's largest jump.
        after: the same after the block.
        n: texts, of two tokens and more.
        share: of them that agree, 0 to 1.
    """

    block: Annotated[int, Field(ge=0)] | None
    before: Ratio
    after: Ratio
    n: Size
    share: float = Field(gt=0, le=1)

    def __str__(self) -> str:
        agree = f"in {100 * self.share:.0f} % of {self.n} texts"
        grows = f"from {self.before:.1f} to {self.after:.1f} times the median token's length"
        if self.block is None:
            return f"no massive activation at position 0 {agree}: its largest jump is {grows}"
        return f"block {self.block} writes position 0's massive activation {agree}: {grows}"


def sink_of(ratios: Float[np.ndarray, "n_texts n_boundaries"]) -> Sink | None:
    """Find b*.

    Each text votes for the block where the ratio grows most, or for none where it does not reach
    `MASSIVE` there; of equal votes the earlier block wins, and any block over none.

    Args:
        ratios: length of position 0's state over the median of the other tokens, before the first
            block and after each; 0 throughout for a text of one token, which has no vote.

    Returns:
        What most texts say; None where no text has a vote.
    """
    ratios = ratios[ratios.any(axis=1)].astype(np.float64)
    if not len(ratios):
        return None
    blocks = np.diff(ratios, axis=1).argmax(axis=1)
    row = np.arange(len(ratios))
    before = ratios[row, blocks]
    after = ratios[row, blocks + 1]
    votes = np.where(after >= MASSIVE, blocks, ratios.shape[1])
    counts = Counter(votes.tolist())
    winner = min(counts, key=lambda vote: (-counts[vote], vote))
    agree = votes == winner
    return Sink(
        block=None if winner == ratios.shape[1] else winner,
        before=float(np.median(before[agree])),
        after=float(np.median(after[agree])),
        n=len(ratios),
        share=float(agree.mean()),
    )
