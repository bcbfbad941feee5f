"""What results show of themselves in a notebook, as HTML (`kvlens.store.facts.PICTURES`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvlens.plots.decision import plot_decision
from kvlens.plots.effects import plot_effects
from kvlens.plots.geometry import plot_geometry
from kvlens.plots.low_rank import plot_low_rank
from kvlens.plots.own_words import plot_own_words
from kvlens.plots.pair_parts import plot_pair_parts
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.profile import plot_profile
from kvlens.plots.readout import plot_readout
from kvlens.plots.scores import plot_scores
from kvlens.plots.states import plot_ranks
from kvlens.plots.style import picture_html
from kvlens.plots.sweeps import plot_study
from kvlens.plots.uptake import plot_ends

# Class of a result -> what draws it, on one axes or several.
PLOTS: dict[str, Callable[[Any], Any]] = {
    "IDProfile": plot_profile,
    "AttentionShift": plot_ends,
    "Decision": plot_decision,
    "WordLens": plot_own_words,
    "Effects": plot_effects,
    "LayerStudy": plot_study,
    "ReadoutSweep": plot_readout,
    "Scores": plot_scores,
    "KVLens": plot_ranks,
    "Geometry": plot_geometry,
    "AttentionPatterns": lambda patterns: plot_patterns(patterns, patterns.layers[0]),
    "LowRank": plot_low_rank,
    "PairParts": plot_pair_parts,
}


def picture(result: Any, alt: str) -> str:
    """The picture of a result, as an ``<img>`` that holds its own SVG.

    Args:
        result: of a class in `PLOTS`.
        alt: the picture in words, for those who cannot see it.
    """
    axes = PLOTS[type(result).__name__](result)
    first = axes[0] if isinstance(axes, Sequence) else axes
    return picture_html(first, alt)
