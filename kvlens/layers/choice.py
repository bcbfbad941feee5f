"""Choice: what a selection rule answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvlens.layers.evidence import Evidence


@dataclass(frozen=True)
class Choice:
    """What a rule answers.

    Attributes:
        layers: block indices, in any order.
        branch: which of its branches the rule took.
        reason: why, in one sentence.
        warnings: what to beware of.
    """

    layers: tuple[int, ...]
    branch: str
    reason: str
    warnings: tuple[str, ...] = ()


Rule = Callable[["Evidence"], Choice]
