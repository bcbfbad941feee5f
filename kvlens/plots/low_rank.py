"""How far W_K and W_V can be cut: the rank that each layer needs, and all layers cut at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.analysis.low_rank import LowRank, Way
from kvlens.plots.parts import band, caption_below, grid, legend_above
from kvlens.plots.style import Look, axes_or_new, styled
from kvlens.plots.words import LAYER, counted
from kvlens.store.checking import a, arguments, axes_to_draw_in, members, optional, real
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = {"k": "weights of K", "v": "weights of V"}
WAYS: dict[Way, str] = {"progressive": "progressive", "uniform": "uniform"}
CURVE: dict[str, Any] = {"ms": 3.5, "lw": 1.2}
THRESHOLD_LINE: dict[str, Any] = {"color": "0.5", "lw": 0.8, "ls": (0, (1, 2))}  # dotted

a_low_rank = a(LowRank, "a low-rank lens of `kvlens.low_rank`")


@arguments(
    low_rank=a_low_rank,
    axes=optional(members(axes_to_draw_in, "Axes")),
    width=real(least=0.5),
)
@styled
def plot_low_rank(
    low_rank: LowRank, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """The share of the rank that W_K and W_V need, and what all layers can lose at once.

    Left, by layer: the smallest share of the rank, of those that were tried, from which on the mean
    cosine to the embedding of whole weights is at least the threshold; 1: no cut leaves it there.
    Right, by the share of all ranks that is kept: that cosine with all layers cut at once, mean and
    one standard deviation over texts.

    Args:
        low_rank: what is drawn.
        axes: two, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: for another number of axes.
    """
    panels = axes_or_new(axes, width, 0.36 * width + 0.7, columns=2)
    if len(panels) != 2:
        raise InputError(f"`axes` are {len(panels)}, a low-rank lens needs 2")
    _draw_needed(panels[0], low_rank)
    _draw_schedules(panels[1], low_rank)
    for ax in panels:
        grid(ax)
        legend_above(ax, columns=2)
    if axes is None:
        caption_below(panels[0], _caption(low_rank))
    return panels


def _draw_needed(ax: Axes, low_rank: LowRank) -> None:
    layers = low_rank.layers
    for i, (kind, name) in enumerate(KINDS.items()):
        needed = [low_rank.share_needed(kind, layer) for layer in layers]
        ax.plot(layers, needed, label=name, **CURVE, **Look.of(i).line)
    ax.set_xlim(-0.5, low_rank.model.n_layers - 0.5)
    ax.locator_params(axis="x", integer=True)
    ax.set_ylim(0, 1.04)
    ax.set_xlabel(LAYER)
    ax.set_ylabel("share of the rank needed")


def _draw_schedules(ax: Axes, low_rank: LowRank) -> None:
    for i, (way, name) in enumerate(WAYS.items()):
        schedules = low_rank.schedules_of(way)
        kept = [each.kept for each in schedules]
        mean = np.array([each.cosine for each in schedules])
        spread = np.array([each.spread for each in schedules])
        look = Look.of(i + len(KINDS))
        ax.plot(kept, mean, label=name, **CURVE, **look.line)
        band(ax, kept, mean - spread, np.minimum(mean + spread, 1), color=look.colour, alpha=0.12)
    ax.axhline(low_rank.threshold, **THRESHOLD_LINE)
    ax.set_ylim(top=1.02)
    ax.set_xlabel("share of all ranks kept")
    ax.set_ylabel("cosine to whole weights")


def _caption(low_rank: LowRank) -> str:
    texts = counted(low_rank.texts.n, "texts")
    facts = [
        f"{low_rank.model.name}, {texts}, prompt {low_rank.prompt.name}",
        f"{low_rank.pooling} pooling",
        f"left: each matrix cut alone, for a mean cosine of {low_rank.threshold:g} (dotted right)",
        "right: all cut at once, mean ± SD over texts",
    ]
    return f"{'; '.join(facts)}."
