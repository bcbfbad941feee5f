"""Layers in words and in the short form that people write: 7-9, 12."""

from __future__ import annotations

from collections.abc import Sequence


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """The unbroken runs, (first, last) each: (7, 8, 9, 12) -> [(7, 9), (12, 12)]."""
    ordered = sorted(layers)
    firsts = [layer for layer in ordered if layer - 1 not in ordered]
    return list(zip(firsts, [layer for layer in ordered if layer + 1 not in ordered], strict=True))


def phrase(layers: Sequence[int]) -> str:
    """Layers in words: (7, 8, 9, 12) -> "layers 7-9, 12"."""
    words = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs(layers))
    return f"layer{'s' * (len(layers) > 1)} {words}" if layers else "no layers"
