"""Figures of what a user should do with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.plots.decision import plot_decision
from kvlens.plots.parts import figure_legend
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, source
from kvlens.store.errors import InputError
from kvlens.studies.decision import Decision

OTHER_JUDGES = ("decision", "decision-news")  # passages of an encyclopaedia, and of news


def choice(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """How to embed with a model, judged by people's scores of sentence pairs. A row a finalist of
    `kvlens choose`, by its gain over the best one without re-routing, on pairs that did not make it
    a finalist; in brackets what chose it: a rule, the best window of a first look, or (given) the
    choice that was made without labels. Last row: the proof, on pairs that chose nothing. Bars:
    paired 95 % intervals. Below: every judge's answer, with the regret of each rule and what a
    window drawn at random gets.
    """
    judged = load_all(data, "decision-pairs")
    row = 0.52 if layout.stacked else 0.27  # names on four lines within one column
    heights = [row * len(decision.shown) + 0.95 for decision in judged]
    options: dict[str, Any] = {"height_ratios": heights}
    axes = layout.axes(float(np.sum(heights)), len(judged), 1, **options)
    for decision, ax in zip(judged, axes, strict=True):
        plot_decision(decision, ax)
        ax.set_title(decision.model.name, fontsize=9, loc="right", pad=16)
    if layout.stacked:
        _legend_below(axes)
    sources = [_source(decision) for decision in judged]
    return Drawn(root_figure(axes), _answers(judged), sources + _others(data))


def _legend_below(axes: Sequence[Any]) -> None:
    """One legend below all: above narrow axes it would not fit."""
    for ax in axes:
        ax.get_legend().remove()
    figure_legend(axes[0], "lower", 3)


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
