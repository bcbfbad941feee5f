"""Figures of what a user should do with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from layout import WIDE, root_figure
from saved import Drawn, load_all, source

from kvlens.plots.decision import plot_decision
from kvlens.plots.style import new_axes
from kvlens.store.errors import InputError
from kvlens.studies.decision import Decision

OTHER_JUDGES = ("decision", "decision-news")  # passages of an encyclopaedia, and of news


def choice(data: Path) -> Drawn:
    """How to embed with a model, judged by people's scores of sentence pairs. A row a finalist of
    `kvlens choose`, by its gain over the best one without re-routing, on pairs that did not make it
    a finalist; in brackets what chose it: a rule, the best window of a first look, or (given) the
    choice that was made without labels. Last row: the proof, on pairs that chose nothing. Bars:
    paired 95 % intervals. Below: every judge's answer, with the regret of each rule and what a
    window drawn at random gets."""
    judged = load_all(data, "decision-pairs")
    heights = [0.16 * len(decision.shown) + 0.95 for decision in judged]
    options: dict[str, Any] = {"height_ratios": heights}
    axes = new_axes(WIDE, float(np.sum(heights)), len(judged), 1, **options)
    for decision, ax in zip(judged, axes, strict=True):
        plot_decision(decision, ax)
        ax.set_title(decision.model.name, fontsize=9, loc="right", pad=16)
    sources = [_source(decision) for decision in judged]
    return Drawn(root_figure(axes), _answers(judged), sources + _others(data))


def _answers(judged: list[Decision]) -> str:
    return " ".join(f"{decision.model.name}: {decision.verdict}." for decision in judged)


def _source(decision: Decision) -> str:
    parts = " + ".join(str(n) for n in decision.n)
    data = f"n = {parts} {decision.kind} of {decision.data}"
    return f"{source(decision, data)}\n\n```\n{decision}\n```"


def _others(data: Path) -> list[str]:
    """The answers of the judges without labels that there are."""
    sources = []
    for kind in OTHER_JUDGES:
        try:
            sources += [_source(decision) for decision in load_all(data, kind)]
        except InputError:
            continue
    return sources
