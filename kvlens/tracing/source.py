"""Source: where the states of a model are read; a plain value. Which it is, `sourcing` finds."""

from __future__ import annotations

from dataclasses import dataclass

from kvlens.models.language_model import Tree
from kvlens.models.probe_batch import SIDES

KEYS_AND_VALUES = frozenset({"k", "k_pre", "v"})
"""Kinds of states that only blocks with keys have."""


@dataclass(frozen=True)
class Source:
    """Where states are read.

    Attributes:
        tree: the module tree that runs.
        again: kinds of keys and values that come of calling the attention module again with the
            final token alone.
        sides: of padding that do not change the states.
        reason: why not all comes from the bridge's hook points; empty where it does.
    """

    tree: Tree
    again: frozenset[str] = frozenset()
    reason: str = ""
    sides: tuple[str, ...] = SIDES
