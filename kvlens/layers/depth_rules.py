"""Depth rules: layers at a fixed depth, whatever the profile.

They cost nothing, and what chooses by the profile has to beat them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvlens.layers.choice import Choice
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from kvlens.layers.evidence import Evidence

# Where published scores by layer of the Pythia models, read out there (32 tasks), miss least.
DEPTH = 0.70


def fixed_depth(evidence: Evidence) -> Choice:
    """A window around 70 % of the depth, among the layers that can be re-routed."""
    middle = evidence.start_at(round(DEPTH * evidence.n_layers) - 1)
    return Choice(
        layers=evidence.window_around(middle),
        branch="fixed depth",
        reason=f"A window around {100 * DEPTH:.0f} % of the depth, whatever the profile.",
        warnings=evidence.narrow(),
    )


def last_k(evidence: Evidence) -> Choice:
    """The last 1 + floor(window * n_layers) layers that can be re-routed."""
    last = evidence.start_at(evidence.n_layers)
    chosen = evidence.window_around(last)
    return Choice(
        layers=chosen,
        branch="last layers",
        reason=f"The last {phrase(chosen).partition(' ')[0]}, whatever the profile.",
        warnings=evidence.narrow(),
    )
