"""What the final token's states hold by layer: ranks, spectra, similarity to the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.analysis.lens import KVLens
from kvlens.analysis.spectra import SHARES, Spectrum
from kvlens.analysis.state_similarity import Similarity
from kvlens.plots.parts import (
    band,
    caption_below,
    colour_bar,
    grey_unable,
    grid,
    legend_above,
    unable_spans,
)
from kvlens.plots.style import COLOUR_MAP, Look, axes_or_new, styled
from kvlens.plots.words import LAYER, STATES, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {"cka": "debiased linear CKA", "r2": "R² of a ridge probe"}
DIRECTION_TICKS = (1, 3, 10, 30, 100, 300)
LIMIT_LINE: dict[str, Any] = {"color": "0.5", "lw": 0.8, "ls": (0, (1, 2))}  # dotted
CURVE: dict[str, Any] = {"ms": 3, "lw": 1.2}


@styled
def plot_ranks(lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9) -> list[Axes]:
    """Over how many directions K and V spread, per layer; all KV heads side by side.

    Effective rank, and the directions that hold 90 % of the energy.

    Args:
        lens: of the final token's states.
        axes: two, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    panels = axes_or_new(axes, width, 0.36 * width + 0.5, columns=2)
    ranks, directions = panels
    for i, kind in enumerate(_kinds(lens)):
        spectra = lens.spectra_of(kind)
        layers = [spectrum.layer for spectrum in spectra]
        look = {"label": STATES[kind], **CURVE, **Look.of(i).line}
        ranks.plot(layers, [spectrum.effective_rank for spectrum in spectra], **look)
        directions.plot(layers, [spectrum.directions[0] for spectrum in spectra], **look)
    ranks.set_ylabel("effective rank")
    directions.set_ylabel("directions for 90 %")
    most = _most_directions(lens)
    for ax in panels:
        _layer_axis(ax, lens)
        _draw_most(ax, most)
    legend_above(ranks, columns=3)
    if axes is None:
        caption_below(ranks, f"{_corpus(lens)}; KV heads side by side, {_heads(lens)}.")
    return panels


@styled
def plot_spectra(
    lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Singular spectra: share of the variance in the first 1, 2, ... directions, until 99 %.

    Args:
        lens: of the final token's states.
        axes: one for each of K before RoPE, K after it and V, as far as recorded; by default a
            new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes, with a curve per layer each.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    kinds = _kinds(lens)
    panels = axes_or_new(axes, width, 0.32 * width + 0.6, columns=len(kinds), sharey=True)
    n_layers = lens.model.n_layers
    colours: Any = ScalarMappable(Normalize(0, n_layers - 1), COLOUR_MAP)
    for ax, kind in zip(panels, kinds, strict=True):
        for spectrum in lens.spectra_of(kind):
            _draw_spectrum(ax, spectrum, colours.to_rgba(spectrum.layer))
        ax.axhline(SHARES[0], **LIMIT_LINE)
        ax.set_title(STATES[kind], fontsize=9)
        _direction_axis(ax)
    panels[0].set_ylabel("share of the variance")
    colour_bar(colours, panels, "layer", pad=0.01, ticks=range(0, n_layers, 5))
    if axes is None:
        notes = "centred states, all KV heads side by side; dotted: 90 %"
        caption_below(panels[0], f"{_corpus(lens)}; {notes}.")
    return panels


@styled
def plot_similarities(
    lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """CKA and the ridge probe's R2 of each layer's states with the embeddings.

    Grey: with permuted embeddings, mean ± 2 standard deviations over the draws.

    Args:
        lens: of the final token's states, with similarities.
        axes: two, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The two axes.
    """
    panels = axes_or_new(axes, width, 0.36 * width + 0.7, columns=2)
    for ax, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        lowest = 0.0
        for i, kind in enumerate(STATES):
            similarities = lens.similarities_of(kind, measure)
            if similarities:
                lowest = min(lowest, _draw_similarities(ax, similarities, Look.of(i)))
        ax.set_ylabel(name)
        _layer_axis(ax, lens)
        ax.set_ylim(lowest - 0.03, 1.05)
    legend_above(panels[0], columns=2)
    if axes is None:
        measured = "similarity of each layer's states to the final embedding"
        spread = f"mean ± 2 standard deviations over {lens.draws} draws"
        what = "grey curves" if unable_spans(lens.model) else "grey"
        grey = f"{what}: embeddings permuted, {spread}"
        caption_below(panels[0], f"{_corpus(lens)}; {measured}; {grey}.")
    return panels


def _corpus(lens: KVLens) -> str:
    texts = counted(lens.texts.n, "texts")
    return f"{lens.model.name}, final token of {texts}, prompt {lens.prompt.name}"


def _kinds(lens: KVLens) -> list[str]:
    """The kinds of states that have spectra, in the order of legends."""
    return [kind for kind in STATES if lens.spectra_of(kind)]


def _heads(lens: KVLens) -> str:
    """How many KV heads there are and how wide; where that differs, the widths of all together."""
    model = lens.model
    widths = sorted({spectrum.d for spectrum in lens.spectra if spectrum.head is None})
    if widths == [model.n_kv_heads * model.d_head]:
        return f"{model.n_kv_heads} x {model.d_head} dimensions"
    return f"{' or '.join(map(str, widths))} dimensions"


def _most_directions(lens: KVLens) -> int:
    """How many directions n centred states of d dimensions can have at most."""
    widest = max(spectrum.d for spectrum in lens.spectra if spectrum.head is None)
    return min(lens.spectra[0].n - 1, widest)


def _layer_axis(ax: Axes, lens: KVLens) -> None:
    ax.set_xlabel(LAYER)
    ax.set_xlim(-0.5, lens.model.n_layers - 0.5)
    grey_unable(ax, unable_spans(lens.model))
    grid(ax)


def _draw_most(ax: Axes, most: int) -> None:
    """The upper limit of ranks, which ends the axis."""
    ax.set_ylim(0, 1.04 * most)
    ax.axhline(most, **LIMIT_LINE)
    place = ax.get_yaxis_transform()
    look: dict[str, Any] = {"va": "top", "fontsize": 7.5, "color": "0.35", "transform": place}
    ax.text(0.01, most, f"most possible: {most}", **look)


def _draw_spectrum(ax: Axes, spectrum: Spectrum, colour: Any) -> None:
    directions = range(1, len(spectrum.energy) + 1)
    ax.plot(directions, spectrum.energy, color=colour, lw=0.9)


def _direction_axis(ax: Axes) -> None:
    """Directions on a logarithmic axis, in plain numbers."""
    ax.set_xscale("log")
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("directions (log scale)")
    grid(ax)
    _, most = ax.get_xlim()
    ticks = [tick for tick in DIRECTION_TICKS if tick <= most]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_xticks([], minor=True)


def _draw_similarities(ax: Axes, similarities: Sequence[Similarity], look: Look) -> float:
    """One kind by one measure, beside its control; returns the lowest point."""
    layers = [similarity.layer for similarity in similarities]
    values = [similarity.value for similarity in similarities]
    chance = np.array([similarity.control for similarity in similarities])
    spread = 2 * np.array([similarity.control_sd for similarity in similarities])
    band(ax, layers, chance - spread, chance + spread, color="0.75", alpha=0.6)
    ax.plot(layers, chance, color="0.5", lw=0.8)
    name = STATES[similarities[0].kind]
    ax.plot(layers, values, label=name, **CURVE, **look.line)
    return min(*values, *(chance - spread))
