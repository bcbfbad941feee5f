"""How much weight the re-routed prefix takes, by layer and position and at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.analysis.attention import KINDS, AttentionPatterns, AttentionShift
from kvlens.plots.parts import caption_below, colour_bar, grid, heat_map, legend_above
from kvlens.plots.style import Look, axes_or_new, styled
from kvlens.plots.words import EFFECTS, PREFIX_WEIGHT, REROUTED_LAYER, SPANS, counted, heads_phrase
from kvlens.store.checking import a, arguments, axes_to_draw_in, choice, optional, real, whole
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BetaMap = Float[np.ndarray, "n_rerouted bins"]

MOST_LABELS = 16  # layers that are labelled on an axis
MOST_NUMBERS = 120  # cells of a map that are small enough to be read as numbers
MOST_BINS = 12
ENDS = ("first 10 %", "last 10 %")
POINT = {"ms": 5, "lw": 1, "capsize": 2}
BRIGHT = 0.55  # share of the largest weight from which on a cell is bright


a_shift = a(AttentionShift, "an attention shift of `kvlens.attention_shift`")


@arguments(
    shift=a_shift,
    kind=choice(*KINDS),
    head=optional(whole(least=0)),
    ax=optional(axes_to_draw_in),
    width=real(least=0.5),
)
@styled
def plot_beta(
    shift: AttentionShift,
    kind: str = "local",
    head: int | None = None,
    ax: Axes | None = None,
    width: float = 5.0,
) -> Axes:
    """Heatmap of beta, the prefix's weight, by layer and relative position.

    Colours run from 0 to the largest weight of both kinds, so that pictures of the two compare.

    Args:
        shift: over a corpus.
        kind: "local" or "propagated".
        head: one attention head; by default the mean over heads.
        ax: where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: there is no such kind or head.
    """
    _check(shift, kind, head)
    maps = {each: beta_map(shift, each, head) for each in KINDS}
    top = float(np.nanmax([*maps.values()]))
    n_layers = len(shift.layers)
    height = 1.35 + min(0.34 * n_layers, 0.16 * n_layers + 1.5)
    (panel,) = axes_or_new(ax, width, height)
    image = draw_beta_map(panel, maps[kind], top or 1)
    _write_numbers(panel, maps[kind], top)
    _map_axes(panel, shift)
    heads = heads_phrase(shift.model.n_heads, head)
    panel.set_title(f"{EFFECTS[kind]} ({heads})", fontsize=9, loc="left")
    colour_bar(image, panel, PREFIX_WEIGHT, pad=0.02)
    if ax is None:
        caption_below(panel, attention_caption(shift, _corpus(shift)))
    return panel


@arguments(shift=a_shift, ax=optional(axes_to_draw_in), width=real(least=0.5))
@styled
def plot_ends(shift: AttentionShift, ax: Axes | None = None, width: float = 5.0) -> Axes:
    """The beta (mean over heads) of the first against the last tenth of the tokens, per layer.

    Bars: one standard deviation over texts. Filled: local; hollow: propagated.

    Args:
        shift: over a corpus.
        ax: where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes.
    """
    (panel,) = axes_or_new(ax, width, 0.45 * width + 1.0)
    for kind in KINDS:
        _draw_ends(panel, shift, kind)
    panel.set_xticks(*_layer_ticks(shift))
    panel.set_ylim(0)
    panel.set_xlabel(REROUTED_LAYER)
    panel.set_ylabel(PREFIX_WEIGHT)
    grid(panel)
    legend_above(panel, columns=2, borderaxespad=0.3)
    if ax is None:
        _, _, n_texts = shift.ends()
        points = f"points: mean over {shift.model.n_heads} heads and {n_texts} texts"
        bars = "bars: ±1 standard deviation over texts"
        caption_below(panel, attention_caption(shift, _corpus(shift), points, bars))
    return panel


def beta_map(shift: AttentionShift, kind: str, head: int | None = None) -> BetaMap:
    """The beta by layer and bin of positions, of one head or (None) the mean over heads."""
    weights = shift.arrays[f"beta.{kind}.mean"]
    return weights.mean(1) if head is None else weights[:, head]


def draw_beta_map(ax: Axes, values: BetaMap, top: float) -> Any:
    """The map alone, layers downwards, positions in per cent; `top`: the brightest weight."""
    return heat_map(ax, values, (0, 100, len(values) - 0.5, -0.5), vmin=0, vmax=top)


def attention_caption(result: AttentionShift | AttentionPatterns, *more: str) -> str:
    """What was re-routed and how, and what else is to be said."""
    biases = ", ".join(f"{bias:g}" for bias in dict.fromkeys(result.bias))
    layers = f"{phrase(result.layers)} of {result.model.n_layers} re-routed"
    route = f"{layers}, bias {biases}, position {result.position}"
    prompt = f"prompt {result.prompt.name}"
    facts = [result.model.name, route, prompt, *more]
    return f"{'; '.join(facts)}."


def _corpus(shift: AttentionShift) -> str:
    texts = counted(shift.texts.n, "texts")
    n_tokens = sum(shift.n_tokens)
    return f"{texts}, {n_tokens:,} tokens; positions over {SPANS[shift.span]}"


def _check(shift: AttentionShift, kind: str, head: int | None) -> None:
    heads = range(shift.model.n_heads)
    if kind not in KINDS or not (head is None or head in heads):
        choices = f"{' or '.join(KINDS)}, heads 0 to {heads[-1]}"
        raise InputError(f"no {kind} effect of head {head}: give {choices}")


def _layer_ticks(shift: AttentionShift) -> tuple[list[int], list[str]]:
    """Where layers are labelled, and how."""
    step = -(-len(shift.layers) // MOST_LABELS)
    rows = list(range(0, len(shift.layers), step))
    return rows, [str(shift.layers[row]) for row in rows]


def _map_axes(ax: Axes, shift: AttentionShift) -> None:
    """Layers downwards, positions in per cent."""
    ax.set_yticks(*_layer_ticks(shift))
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel(f"relative position of the token, % of {SPANS[shift.span]}")
    ax.set_ylabel(REROUTED_LAYER)


def _write_numbers(ax: Axes, values: BetaMap, top: float) -> None:
    """Each cell's weight in it, where cells are large enough."""
    _, bins = values.shape
    if values.size > MOST_NUMBERS or bins > MOST_BINS:
        return
    for row, column in np.argwhere(np.isfinite(values)):
        weight = values[row, column]
        number = f"{weight:.2f}".lstrip("0")
        colour = "white" if weight < BRIGHT * top else "black"
        look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
        ax.text(100 * (column + 0.5) / bins, row, number, **look)


def _draw_ends(ax: Axes, shift: AttentionShift, kind: str) -> None:
    """Two points a layer, the first tenth of the tokens and the last, side by side."""
    mean, deviation, n_texts = shift.ends(kind)
    hollow = kind == "propagated"
    layers = np.arange(len(shift.layers))
    for end, name in enumerate(ENDS):
        look = Look.of(end)
        fill = "white" if hollow else look.colour
        marks = {**POINT, **look.mark, "mfc": fill}
        x = layers + 0.32 * end + 0.16 * hollow - 0.24
        bars = deviation[end] if n_texts > 1 else None
        ax.errorbar(x, mean[end], bars, label=f"{name}, {kind}", **marks)
