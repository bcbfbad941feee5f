"""How many of the favoured tokens are the text's own words: by layer, and by head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.analysis.word_lens import INTERVAL, WordLens, WordShare
from kvlens.plots.parts import (
    band,
    caption_below,
    colour_bar,
    figure_legend,
    grid,
    heat_map,
    legend_above,
)
from kvlens.plots.style import Look, axes_or_new, styled
from kvlens.plots.words import LAYER, counted
from kvlens.store.checking import a, arguments, axes_to_draw_in, members, optional, real
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READ = {"v": "what V writes", "hidden": "hidden state"}
"""Kinds that have layers -> their names in a legend."""

CURVE: dict[str, Any] = {"ms": 3, "lw": 1.2}
CHANCE: dict[str, Any] = {"lw": 1, "ls": (0, (1, 1.5)), "marker": ""}  # dotted

a_word_lens = a(WordLens, "a word lens of `kvlens.word_lens`")


@arguments(
    lens=a_word_lens,
    axes=optional(members(axes_to_draw_in, "Axes")),
    width=real(least=0.5),
)
@styled
def plot_own_words(
    lens: WordLens, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Share of the favoured tokens that are the text's own words, by layer; centred on the right.

    Band: 95 % of the mean over texts. Dotted: the same share for the words of another text. The
    line across is the embedding's share.

    Args:
        lens: of some texts.
        axes: where to draw, one for states as they are and one for centred ones; by default a new
            figure with a caption below, with one where there is one text.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: for another number of axes.
    """
    sides = [side for side in (False, True) if lens.shares_of("hidden", side)]
    options: dict[str, Any] = {"columns": len(sides), "sharey": True}
    panels = axes_or_new(axes, width, 0.34 * width + 0.8, **options)
    if len(panels) != len(sides):
        raise InputError(f"`axes` are {len(panels)}, this lens needs {len(sides)}")
    for ax, centred in zip(panels, sides, strict=True):
        for i, kind in enumerate(READ):
            _draw_curve(ax, lens, lens.shares_of(kind, centred), Look.of(i))
        _draw_embedding(ax, lens.shares_of("embedding", centred), Look.of(len(READ)))
        if lens.texts.n > 1:
            ax.plot([], [], label="another text's words", color="0.4", **CHANCE)
        ax.set_title("less the mean over texts" if centred else "as they are", fontsize=9)
        ax.set_xlabel(LAYER)
        ax.set_xlim(-0.5, lens.model.n_layers - 0.5)
        ax.set_ylim(0, _top(lens))
        grid(ax)
    panels[0].set_ylabel(f"own words among {lens.top} tokens")
    if axes is None:
        figure_legend(panels[0], "upper")
        caption_below(panels[0], f"{_corpus(lens)}; {_meaning(lens)}.")
    else:
        legend_above(panels[0], columns=2)
    return panels


@styled
def plot_word_heads(lens: WordLens, ax: Axes | None = None, width: float = 6.9) -> Axes:
    """By layer and query head: how much more what V writes favours the text's words than another's.

    Args:
        lens: of at least two texts, with heads.
        ax: where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: for a lens without heads or of one text.
    """
    gains = _gains(lens)
    n_heads = len(gains)
    (panel,) = axes_or_new(ax, width, 0.9 + min(0.22 * n_heads, 4.5))
    most = max(float(np.nanmax(np.abs(gains))), 0.05)
    extent = (-0.5, lens.model.n_layers - 0.5, n_heads - 0.5, -0.5)
    image = heat_map(panel, np.ma.masked_invalid(gains), extent, vmin=0, vmax=most)
    panel.set_xlabel(LAYER)
    panel.set_ylabel("query head")
    panel.set_yticks(range(0, n_heads, -(-n_heads // 16)))
    colour_bar(image, panel, "own - other", pad=0.01)
    if ax is None:
        what = "what V writes by each query head alone, less the mean over texts"
        caption_below(panel, f"{_corpus(lens)}; {what}; negative ones have the colour of 0.")
    return panel


def has_heads(lens: WordLens) -> bool:
    """Whether there is something to draw by head."""
    return any(each.head is not None and each.gain is not None for each in lens.shares)


def _gains(lens: WordLens) -> Float[np.ndarray, "n_heads n_layers"]:
    """Own less other, NaN where nothing was read."""
    if not has_heads(lens):
        raise InputError("this word lens has no heads of several texts: read it with `heads=True`")
    by_head = [each for each in lens.shares if each.head is not None]
    n_heads = 1 + max(each.head or 0 for each in by_head)
    gains = np.full((n_heads, lens.model.n_layers), np.nan)
    for each in by_head:
        if each.gain is not None:
            gains[each.head, each.layer] = each.gain
    return gains


def _draw_curve(ax: Axes, lens: WordLens, shares: Sequence[WordShare], look: Look) -> None:
    if not shares:
        return
    layers = [each.layer for each in shares if each.layer is not None]
    own = np.array([each.own for each in shares])
    half = INTERVAL * np.array([each.own_sd for each in shares]) / np.sqrt(lens.texts.n)
    band(ax, layers, np.clip(own - half, 0, 1), own + half, color=look.colour, alpha=0.2)
    name = READ[shares[0].kind]
    ax.plot(layers, own, label=f"{name}: own words", **CURVE, **look.line)
    others = [each.other for each in shares if each.other is not None]
    if others:
        ax.plot(layers, others, color=look.colour, **CHANCE)


def _draw_embedding(ax: Axes, shares: Sequence[WordShare], look: Look) -> None:
    """Lines across, since an embedding has no layer."""
    for share in shares:
        ax.axhline(share.own, label="embedding: own words", color=look.colour, ls="-.", lw=1.2)
        if share.other is not None:
            ax.axhline(share.other, color=look.colour, **CHANCE)


def _top(lens: WordLens) -> float:
    """The end of the axis, with room for bands."""
    highest = [
        each.own + INTERVAL * each.own_sd / np.sqrt(lens.texts.n)
        for each in lens.shares
        if each.head is None
    ]
    return min(1.05, 1.08 * max(highest, default=1) + 0.02)


def _corpus(lens: WordLens) -> str:
    texts = counted(lens.texts.n, "texts")
    return f"{lens.model.name}, final token of {texts}, prompt {lens.prompt.name}"


def _meaning(lens: WordLens) -> str:
    return (
        f"share of the {lens.top} tokens that each state favours (through final norm and "
        "unembedding) that are words of the text, bands: 95 % of the mean over texts; dotted: of "
        "another text"
    )
