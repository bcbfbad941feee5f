"""Layer ranges: 0-based block indices in words, and in the short form that people write."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvlens.store.arguments import shown
from kvlens.store.errors import InputError

MOST_LAYERS = 2_000  # blocks; the deepest models that were trained have about 1,000


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """The unbroken runs of layers, first and last of each: (7, 8, 9, 12) -> [(7, 9), (12, 12)]."""
    members = set(layers)
    ordered = sorted(members)
    firsts = [layer for layer in ordered if layer - 1 not in members]
    lasts = [layer for layer in ordered if layer + 1 not in members]
    return list(zip(firsts, lasts, strict=True))


def phrase(layers: Sequence[int]) -> str:
    """Layers in words: (7, 8, 9, 12) -> "layers 7-9, 12"."""
    if not layers:
        return "no layers"
    noun = "layer" if len(layers) == 1 else "layers"
    return f"{noun} {', '.join(map(_run_text, runs(layers)))}"


def short(layers: Sequence[int]) -> str:
    """Layers as `parse_layers` reads them: (7, 8, 9, 12) -> "7-9,12"; "none" for no layers."""
    return ",".join(map(_run_text, runs(layers))) or "none"


def _run_text(run: tuple[int, int]) -> str:
    first, last = run
    return str(first) if first == last else f"{first}-{last}"


def parse_layers(text: str) -> tuple[int, ...]:
    """Layers out of their short form.

    Args:
        text: runs with ``,`` or ``+`` between them, such as ``7-10``, ``7,9`` or ``7+9``; or
            ``none``.

    Returns:
        The layers in the order of `text`.

    Raises:
        InputError: for anything else.
    """
    if text == "none":
        return ()
    layers: list[int] = []
    for part in re.split(r"[,+]", text):
        bounds = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
        first, last = (int(bounds[1]), int(bounds[2] or bounds[1])) if bounds else (1, 0)
        if first > last or len(layers) + last - first >= MOST_LAYERS:
            raise InputError(f"{shown(text)} is not a list of layers such as 7-10 or 7,9, nor none")
        layers.extend(range(first, last + 1))
    return tuple(layers)
