"""Planned pass: which texts will go through a model, and for which encoders. It runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.together import groups_by_pass


@dataclass(frozen=True)
class PlannedPass:
    """Texts that go through a model, for encoders that share the pass.

    Attributes:
        encoders: at least one, see `kvlens.embedding.together.share_a_pass`.
        kind: ``query`` or ``document``, whose prompts are used.
        texts: distinct texts.
        times: how often they go through it, at most.
        sets: how many vectors each encoder has of a text.
    """

    encoders: Sequence[Encoder]
    kind: str
    texts: Sequence[str]
    times: int = 1
    sets: int = 1

    @property
    def vectors_a_text(self) -> int:
        """How many numbers all vectors of a text have."""
        return self.sets * sum(each.get_embedding_dimension() for each in self.encoders)


def planned_passes(
    encoders: Sequence[Encoder], kind: str, texts: Sequence[str]
) -> list[PlannedPass]:
    """One pass for all encoders that share it.

    Args:
        encoders: in any order; those of one signature are one.
        kind: ``query`` or ``document``, whose prompts are used.
        texts: distinct texts.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}
    groups = groups_by_pass(list(distinct.values()), kind)
    return [PlannedPass(group, kind, texts) for group in groups]
