"""What results show of themselves in a notebook, as HTML (`kvlens.store.facts.PICTURES`)."""

from __future__ import annotations

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.low_rank import LowRank
from kvlens.analysis.method_geometry import Geometry
from kvlens.analysis.word_lens import WordLens
from kvlens.dimension.profile import IDProfile
from kvlens.evaluation.scores import Scores
from kvlens.plots.decision import plot_decision
from kvlens.plots.effects import plot_effects
from kvlens.plots.geometry import plot_geometry
from kvlens.plots.low_rank import plot_low_rank
from kvlens.plots.own_words import plot_own_words
from kvlens.plots.patterns import plot_patterns
from kvlens.plots.profile import plot_profile
from kvlens.plots.readout import plot_readout
from kvlens.plots.scores import plot_scores
from kvlens.plots.states import plot_ranks
from kvlens.plots.style import picture_html
from kvlens.plots.sweeps import plot_study
from kvlens.plots.uptake import plot_ends
from kvlens.studies.decision import Decision
from kvlens.studies.effects import Effects
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy


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


def study_picture(study: LayerStudy, alt: str) -> str:
    """The regret of every rule, as an ``<img>`` that holds its own SVG.

    Args:
        study: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_study(study)[0], alt)


def readout_picture(sweep: ReadoutSweep, alt: str) -> str:
    """Quality after every block, as an ``<img>`` that holds its own SVG.

    Args:
        sweep: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_readout(sweep)[0], alt)


def scores_picture(scores: Scores, alt: str) -> str:
    """Scores by method and task, as an ``<img>`` that holds its own SVG.

    Args:
        scores: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_scores(scores)[0], alt)


def ranks_picture(lens: KVLens, alt: str) -> str:
    """The effective rank of K and V by layer, as an ``<img>`` that holds its own SVG.

    Args:
        lens: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_ranks(lens)[0], alt)


def geometry_picture(geometry: Geometry, alt: str) -> str:
    """Isotropy, uniformity and alignment by method, as an ``<img>`` that holds its own SVG.

    Args:
        geometry: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_geometry(geometry)[0], alt)


def patterns_picture(patterns: AttentionPatterns, alt: str) -> str:
    """The first layer's attention before and after, as an ``<img>`` that holds its own SVG.

    Args:
        patterns: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_patterns(patterns, patterns.layers[0])[0], alt)


def low_rank_picture(low_rank: LowRank, alt: str) -> str:
    """What W_K and W_V need of their rank, as an ``<img>`` that holds its own SVG.

    Args:
        low_rank: what is drawn.
        alt: the picture in words, for those who cannot see it.
    """
    return picture_html(plot_low_rank(low_rank)[0], alt)
