"""Why two texts are similar: their cosine by pair of tokens, by layer and by query head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.analysis.pair_parts import PairParts
from kvlens.plots.parts import (
    caption_below,
    colour_bar,
    grid,
    heat_map,
    legend_above,
    shade_layers,
)
from kvlens.plots.patterns import axis_token
from kvlens.plots.style import COLOURS, Look, axes_or_new, styled
from kvlens.plots.words import LAYER
from kvlens.store.checking import a, arguments, axes_to_draw_in, members, optional, real
from kvlens.store.errors import InputError, printable, shortened
from kvlens.store.layer_ranges import phrase, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIGNED = "PuOr_r"  # below 0 purple, above 0 orange; told apart with every common colour vision
MOST_NAMED = 40  # tokens that fit on an axis
BARS: dict[str, Any] = {"width": 0.8, "lw": 0}
SHARE = "share of the cosine"
TITLES = ("by pair of tokens", "if the model ended there", "by query head", "by block")
UNTOLD = "this model does not show\nwhat its heads write"

a_pair = a(PairParts, "parts of `kvlens.pair_parts`")


@arguments(
    parts=a_pair,
    less=optional(a_pair),
    axes=optional(members(axes_to_draw_in, "Axes")),
    width=real(least=0.5),
)
@styled
def plot_pair_parts(
    parts: PairParts,
    less: PairParts | None = None,
    axes: Sequence[Axes] | None = None,
    width: float = 8.2,
) -> list[Axes]:
    """The cosine of two texts: by pair of tokens, after each block, by head and by block.

    On top, the share of each pair of tokens (orange: towards each other, purple: apart; square
    roots, so that small ones show), and the cosine as it would be if the model ended after each
    block. Below, the share of what each query head writes (square roots again), and of each block's
    attention and MLP. The map of tokens adds up to the cosine, and so do the bars with the shares
    of embedding and norm; where other parts are taken off, to the difference of both cosines.

    Args:
        parts: what is drawn.
        less: parts that are taken off: of the same texts, encoded in another way, such as without
            re-routing.
        axes: four, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes: tokens, after each block, heads, blocks.

    Raises:
        InputError: for another number of axes, and parts of other shapes.
    """
    panels = axes_or_new(axes, width, 0.95 * width, rows=2, columns=2)
    if len(panels) != 4:
        raise InputError(f"`axes` are {len(panels)}, parts of a cosine need 4")
    if less is not None:
        _check_alike(parts, less)
    tokens, after, heads, blocks = panels
    _draw_tokens(tokens, parts, _less(parts, less, "tokens"))
    _draw_after(after, parts, less)
    _draw_heads(heads, _less(parts, less, "heads"))
    _draw_blocks(blocks, _less(parts, less, "blocks"), _less(parts, less, "attention"))
    for ax, title in zip(panels, TITLES, strict=True):
        ax.set_title(title, fontsize=9, loc="right")
    for ax in (after, blocks):
        _mark_rerouted(ax, parts)
        grid(ax)
    if axes is None:
        caption_below(tokens, _caption(parts, less))
    return panels


def _check_alike(parts: PairParts, less: PairParts) -> None:
    shapes = [{name: array.shape for name, array in each.arrays.items()} for each in (parts, less)]
    if shapes[0] != shapes[1]:
        raise InputError("`less` is of other tokens, layers or heads: nothing can be taken off")


def _less(parts: PairParts, less: PairParts | None, name: str) -> np.ndarray | None:
    """An array, without that of the parts that are taken off; None where there is none."""
    values = parts.arrays.get(name)
    return values if values is None or less is None else values - less.arrays[name]


def _signed_roots(values: Float[np.ndarray, "rows columns"]) -> Any:
    """Colours from purple over white to orange, by the square root of the size."""
    from matplotlib.colors import FuncNorm

    most = max(float(np.abs(values).max()), 1e-12)
    functions = (lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * np.square(x))
    return FuncNorm(functions, -most, most)


def _map(ax: Axes, values: Float[np.ndarray, "rows columns"], corner: float = 0.0) -> None:
    """Values as colours, row 0 on top, with their scale beside."""
    rows, columns = values.shape
    extent = (corner, corner + columns, corner + rows, corner)
    image = heat_map(ax, values, extent, norm=_signed_roots(values))
    image.set_cmap(SIGNED)
    ax.tick_params(length=0, pad=2)
    most = image.norm.vmax
    ticks = [-most, -most / 10, 0, most / 10, most]
    colour_bar(image, ax, SHARE, pad=0.02, ticks=ticks, format="%.2g")


def _draw_tokens(ax: Axes, parts: PairParts, shares: Any) -> None:
    _map(ax, shares)
    first, second = parts.tokens
    size = 5.5 if max(len(first), len(second)) > 25 else 6.5
    for axis, tokens, turn in ((ax.yaxis, first, 0), (ax.xaxis, second, 90)):
        if len(tokens) <= MOST_NAMED:
            axis.set_ticks(np.arange(len(tokens)) + 0.5, [axis_token(each) for each in tokens])
        axis.set_tick_params(labelsize=size, labelrotation=turn)
    ax.set_ylabel("first text's tokens")
    ax.set_xlabel("second text's tokens")


def _draw_after(ax: Axes, parts: PairParts, less: PairParts | None) -> None:
    drawn = [parts] if less is None else [parts, less]
    for i, (each, name) in enumerate(zip(drawn, _names(parts, less), strict=False)):
        values = each.arrays["after"]
        ax.plot(range(len(values)), values, ms=3, lw=1.2, label=name, **Look.of(i).line)
    if less is not None:
        ax.legend(loc="lower left", frameon=False)
    ax.set_ylabel("cosine after the block")
    _layer_axis(ax, parts)


def _names(parts: PairParts, less: PairParts | None) -> tuple[str, str]:
    """What tells the parts from those that are taken off: whether they are re-routed."""
    if less is None or parts.rerouted == less.rerouted:
        return "these", "taken off"
    first, second = (
        f"re-routed: {phrase(each.rerouted)}" if each.rerouted else "not re-routed"
        for each in (parts, less)
    )
    return first, second


def _draw_heads(ax: Axes, shares: Any) -> None:
    if shares is None:
        ax.set_axis_off()
        ax.text(0.5, 0.5, UNTOLD, ha="center", va="center", transform=ax.transAxes)
        return
    _map(ax, shares.T, corner=-0.5)
    ax.locator_params(integer=True)
    ax.set_xlabel(LAYER)
    ax.set_ylabel("query head")


def _draw_blocks(ax: Axes, blocks: Any, attention: Any) -> None:
    layers = np.arange(len(blocks))
    if attention is None:
        ax.bar(layers, blocks, color=COLOURS[0], label="block", **BARS)
    else:
        half = BARS | {"width": BARS["width"] / 2}
        ax.bar(layers - 0.2, attention, color=COLOURS[0], label="attention", **half)
        ax.bar(layers + 0.2, blocks - attention, color=COLOURS[1], label="MLP", **half)
    ax.axhline(0, color="0.4", lw=0.6)
    legend_above(ax, columns=2)
    ax.set_ylabel(SHARE)
    ax.set_xlabel(LAYER)


def _layer_axis(ax: Axes, parts: PairParts) -> None:
    ax.set_xlim(-0.7, len(parts.arrays["after"]) - 0.3)
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel(LAYER)


def _mark_rerouted(ax: Axes, parts: PairParts) -> None:
    for first, last in runs(parts.rerouted):
        shade_layers(ax, first - 0.5, last + 0.5)


def _caption(parts: PairParts, less: PairParts | None) -> str:
    first, second = (shortened(printable(" ".join(text.split())), 70) for text in parts.texts)
    cosine = f"cosine {parts.cosine:.3f}"
    if less is not None:
        cosine = f"{parts.cosine:.3f} less {less.cosine:.3f}"
    embedding = _less(parts, less, "ends")
    facts = [f"{parts.model.name}, {parts.method}", cosine, "colours by square roots"]
    facts.append(f"the embedding's share {embedding[0]:+.4f}" if embedding is not None else "")
    if parts.rerouted:
        facts.append(f"shaded: re-routed ({phrase(parts.rerouted)})")
    return f"{'; '.join(facts)}. First: {first} Second: {second}"
