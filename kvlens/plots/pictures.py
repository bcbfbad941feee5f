"""What results show of themselves in a notebook, as HTML (`kvlens.store.facts.PICTURES`)."""

from __future__ import annotations

from kvlens.analysis.attention import AttentionShift
from kvlens.analysis.word_lens import WordLens
from kvlens.dimension.profile import IDProfile
from kvlens.plots.decision import plot_decision
from kvlens.plots.effects import plot_effects
from kvlens.plots.own_words import plot_own_words
from kvlens.plots.profile import plot_profile
from kvlens.plots.style import picture_html
from kvlens.plots.uptake import plot_ends
from kvlens.studies.decision import Decision
from kvlens.studies.effects import Effects


def profile_picture(profile: IDProfile, alt: str) -> str:
    """ID by layer, as an ``<img>`` that holds its own SVG.

    Args:
        profile: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_profile(profile), alt)


def decision_picture(decision: Decision, alt: str) -> str:
    """The gain over no re-routing of the best ways, as an ``<img>`` that holds its own SVG.

    Args:
        decision: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_decision(decision), alt)


def shift_picture(shift: AttentionShift, alt: str) -> str:
    """The prefix's weight at both ends of the text, as an ``<img>`` that holds its own SVG.

    Args:
        shift: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_ends(shift), alt)


def words_picture(lens: WordLens, alt: str) -> str:
    """The share of the text's own words by layer, as an ``<img>`` that holds its own SVG.

    Args:
        lens: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_own_words(lens)[0], alt)


def effects_picture(effects: Effects, alt: str) -> str:
    """What each part of a route does, as an ``<img>`` that holds its own SVG.

    Args:
        effects: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_effects(effects)[0], alt)
