"""Attention of one layer on one text, before and after re-routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.analysis.attention import KINDS, AttentionPatterns
from kvlens.analysis.token_labels import token_label
from kvlens.plots.parts import caption_below, colour_bar, heat_map, is_leftmost
from kvlens.plots.style import COLOURS, axes_or_new, styled
from kvlens.plots.uptake import attention_caption
from kvlens.plots.words import heads_phrase
from kvlens.store.arguments import refusal
from kvlens.store.checking import (
    a,
    arguments,
    axes_to_draw_in,
    choice,
    members,
    optional,
    real,
    whole,
)
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pattern = Float[np.ndarray, "queries keys"]

MOST = 44  # tokens that fit on an axis; longer texts are shown in that many bins
# Where the prefix's column lies, in widths of the square to its left; and its colour.
PREFIX_LEFT = -0.09
PREFIX_RIGHT = -0.03
PREFIX_COLOUR = COLOURS[1]


@dataclass(frozen=True)
class _View:
    """What is shown of a layer: m rows and columns, each a token, or a bin of tokens.

    Attributes:
        before: causal weights; rows sum to 1.
        after: those beside the prefix; rows sum to 1 with the prefix's.
        prefix: its own column.
        beta: the prefix's weight, mean over all queries.
        tokens: the text's, as they are.
    """

    before: Float[np.ndarray, "m m"]
    after: Float[np.ndarray, "m m"]
    prefix: Float[np.ndarray, "m 1"]
    beta: float
    tokens: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many rows and columns."""
        return len(self.before)

    @property
    def binned(self) -> bool:
        """Whether rows and columns are bins of tokens."""
        return len(self.tokens) > MOST

    @property
    def largest(self) -> float:
        """The largest weight anywhere."""
        return max(float(part.max()) for part in (self.before, self.after, self.prefix))


def _two_axes(name: str, value: Any) -> Any:
    """The check of a pair of axes."""
    panels = members(axes_to_draw_in, "Axes")(name, value)
    if len(panels) != 2:
        raise refusal(name, value, "two Axes")
    return panels


@arguments(
    patterns=a(AttentionPatterns, "patterns of `kvlens.attention_patterns`"),
    layer=whole(least=0),
    head=optional(whole(least=0)),
    kind=choice(*KINDS),
    axes=optional(_two_axes),
    width=real(least=0.5),
)
@styled
def plot_patterns(
    patterns: AttentionPatterns,
    layer: int,
    head: int | None = None,
    kind: str = "propagated",
    axes: tuple[Axes, Axes] | None = None,
    width: float = 6.9,
) -> tuple[Axes, Axes]:
    """Attention of one layer before and after on one text, queries downwards.

    The prefix stands apart, as its own column. Up to 44 tokens are shown as they are, longer
    texts in bins of tokens: the mean over a bin's queries of their weight on a bin's keys, so
    that rows still sum to 1. The colour is the square root of the weight: else the attention
    sink alone would show.

    Args:
        patterns: of one text.
        layer: a re-routed one.
        head: one attention head; by default the mean over heads.
        kind: "local" or "propagated".
        axes: where to draw before and after; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes of before and of after.

    Raises:
        InputError: there is no such layer, kind or head.
    """
    from matplotlib.colors import PowerNorm

    _check(patterns, layer, head, kind)
    view = _view(patterns, layer, head, kind)
    left, right = axes_or_new(axes, width, 0.56 * width + 0.9, columns=2)
    scale = PowerNorm(0.5, 0, view.largest)
    _draw_square(left, view, view.before, scale)
    left.set_title("before", fontsize=9)
    left.set_ylabel("query token")
    _draw_square(right, view, view.after, scale)
    right.set_title(f"after ({kind})", fontsize=9)
    if not is_leftmost(right):
        right.set_yticklabels([])
    image = _draw_prefix(right, view, scale)
    label = "attention weight (square-root colours)"
    colour_bar(image, [left, right], label, pad=0.01, aspect=30)
    if axes is None:
        heads = heads_phrase(patterns.model.n_heads, head)
        size = f"{len(view.tokens)} tokens"
        mass = f"mean β {view.beta:.2f}"
        words = attention_caption(patterns, f"layer {layer}, {heads}", size, mass)
        caption_below(left, words)
    return left, right


def _check(patterns: AttentionPatterns, layer: int, head: int | None, kind: str) -> None:
    heads = range(patterns.arrays["beta"].shape[1])
    known = layer in patterns.layers and kind in KINDS
    if not known or not (head is None or head in heads):
        wrong = f"no {kind} pattern of layer {layer}, head {head}"
        raise InputError(f"{wrong}; layers {list(patterns.layers)}")


def _view(patterns: AttentionPatterns, layer: int, head: int | None, kind: str) -> _View:
    """The weights of one layer, of one head or the mean over heads, binned where they are many."""
    row = patterns.layers.index(layer)
    before = patterns.arrays["before"][row]
    after = patterns.arrays["after"][row]
    if kind == "local":
        beta = patterns.arrays["beta"][row][..., None]
        after = np.concatenate([beta, (1 - beta) * before], axis=-1)
    before = before.mean(0) if head is None else before[head]
    after = after.mean(0) if head is None else after[head]
    starts = _bins(len(patterns.tokens))
    return _View(
        before=_add_keys(_mean_queries(before, starts), starts),
        after=_add_keys(_mean_queries(after[:, 1:], starts), starts),
        prefix=_mean_queries(after[:, :1], starts),
        beta=float(after[:, 0].mean()),
        tokens=patterns.tokens,
    )


def _bins(n: int) -> np.ndarray:
    """The first token of each of at most `MOST` bins of n tokens, about equal in size."""
    edges = np.linspace(0, n, min(n, MOST) + 1).round().astype(int)
    return np.unique(edges)[:-1]


def _mean_queries(pattern: Pattern, starts: np.ndarray) -> Pattern:
    """Rows of a bin become their mean."""
    sizes = np.diff([*starts, len(pattern)]).astype(pattern.dtype)
    return np.add.reduceat(pattern, starts, axis=0) / sizes[:, None]


def _add_keys(pattern: Pattern, starts: np.ndarray) -> Pattern:
    """Columns of a bin become their sum."""
    return np.add.reduceat(pattern, starts, axis=1)


def _draw_square(ax: Axes, view: _View, weights: Float[np.ndarray, "m m"], scale: Any) -> None:
    """The weights on tokens, without the future; names or numbers of tokens on both axes."""
    m = view.size
    future = np.triu(np.ones((m, m), dtype=bool), 1)
    heat_map(ax, np.ma.masked_where(future, weights), (0, m, m, 0), norm=scale)
    if view.binned:
        _number_tokens(ax, view)
    else:
        _name_tokens(ax, view.tokens)


def _name_tokens(ax: Axes, tokens: Sequence[str]) -> None:
    """Every token in words."""
    names = [axis_token(token) for token in tokens]
    places = np.arange(len(names)) + 0.5
    size = 5.5 if len(names) > 25 else 7
    ax.set_xticks(places, names, rotation=90, fontsize=size)
    ax.set_yticks(places, names, fontsize=size)
    ax.tick_params(length=0)
    ax.set_xlabel("key token")


def _number_tokens(ax: Axes, view: _View) -> None:
    """Some tokens by their position."""
    places = np.linspace(0, view.size, 5)
    names = [str(round(len(view.tokens) * place / view.size)) for place in places]
    ax.set_xticks(places, names, fontsize=8)
    ax.set_yticks(places, names, fontsize=8)
    ax.tick_params(length=2)
    ax.set_xlabel(f"key token (mean weight, {view.size} bins of tokens)")


def _draw_prefix(ax: Axes, view: _View, scale: Any) -> Any:
    """The prefix's column in a frame, to the left of the square; returns its image."""
    from matplotlib.patches import Rectangle

    m = view.size
    left = PREFIX_LEFT * m
    right = PREFIX_RIGHT * m
    image = heat_map(ax, view.prefix, (left, right, m, 0), norm=scale)
    ax.set_xlim(left, m)
    look: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7.5, "color": PREFIX_COLOUR}
    ax.text((left + right) / 2, -0.01 * m, "prefix", **look)
    frame = Rectangle((left, 0), right - left, m, fill=False, ec=PREFIX_COLOUR)
    frame.set_linewidth(1)
    frame.set_clip_on(False)
    ax.add_patch(frame)
    return image


def axis_token(token: str) -> str:
    """A token for an axis; characters that the font lacks are boxes."""
    from matplotlib.font_manager import fontManager, get_font

    font = get_font(fontManager.findfont("DejaVu Sans"))
    label = token_label(token)
    return "".join(letter if font.get_char_index(ord(letter)) else "□" for letter in label)
