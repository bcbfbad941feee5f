"""What states favour, in words: a row a layer, the first tokens beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kvlens.analysis.token_labels import token_label
from kvlens.analysis.word_lens import TopWords, WordLens
from kvlens.plots.own_words import READ, a_word_lens
from kvlens.plots.parts import caption_below
from kvlens.plots.style import COLOURS, axes_or_new, styled
from kvlens.store.checking import arguments, axes_to_draw_in, flag, members, optional, real, whole
from kvlens.store.errors import InputError, printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4  # tokens a row
MOST_ROWS = 40  # layers that are shown; of more, every second or third
LETTERS = 13  # of a token
ROW = 0.175  # inches
OWN = {"color": COLOURS[1], "weight": "bold"}
OTHER = {"color": "0.15"}
CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "clip_on": True}
NOTHING = "nothing that differs between texts, or no values"
# Fonts of many scripts, as systems have them: those that are installed stand in where the first
# has no glyph.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Nirmala UI",
)


@arguments(
    lens=a_word_lens,
    text=whole(least=0),
    centred=optional(flag),
    axes=optional(members(axes_to_draw_in, "Axes")),
    width=real(least=0.5),
)
@styled
def plot_words(
    lens: WordLens,
    text: int = 0,
    centred: bool | None = None,
    axes: Sequence[Axes] | None = None,
    width: float = 8.2,
) -> list[Axes]:
    """The tokens that each layer favours for one text: what V writes, and the hidden state.

    Bold and coloured: the text's own words. The paler the ground, the smaller the weight. Letters
    that no installed font has are escaped.

    Args:
        lens: with shown texts.
        text: which of them.
        centred: states less their mean over the texts; by default where there are several.
        axes: two, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The two axes.

    Raises:
        InputError: for a text that is not shown, centred states of one text, and another number of
            axes.
    """
    if text >= len(lens.shown):
        raise InputError(f"`text` is {text}, this lens shows {len(lens.shown)} texts")
    if centred is None:
        centred = bool(lens.shares_of("hidden", centred=True))
    rows = {kind: lens.words_of(text, kind, centred) for kind in READ}
    if not rows["hidden"]:
        raise InputError("`centred`: states of one text are not read less their mean")
    layers = _some([each.layer for each in rows["hidden"] if each.layer is not None])
    height = ROW * (len(layers) + 1) + 1.1
    panels = axes_or_new(axes, width, height, columns=2)
    if len(panels) != 2:
        raise InputError(f"`axes` are {len(panels)}, two are needed")
    for ax, (kind, words) in zip(panels, rows.items(), strict=True):
        _draw_rows(ax, layers, words)
        ax.set_title(READ[kind], fontsize=9)
    panels[0].set_ylabel("layer (0-based block index)")
    if axes is None:
        caption_below(panels[0], _caption(lens, text, centred))
    return panels


def _some(layers: list[int]) -> list[int]:
    """Layers that fit, the last one among them."""
    step = -(-len(layers) // MOST_ROWS)
    return layers[::-1][::step][::-1]


def _draw_rows(ax: Axes, layers: Sequence[int], words: Iterable[TopWords]) -> None:
    by_layer = {each.layer: each for each in words}
    for row, layer in enumerate(layers):
        if layer in by_layer:
            _draw_row(ax, row, by_layer[layer])
        else:
            ax.text((COLUMNS - 1) / 2, row, NOTHING, **CENTRED, fontsize=6.8, color="0.45")
    ax.set_xlim(-0.5, COLUMNS - 0.5)
    ax.set_ylim(len(layers) - 0.5, -0.5)
    ax.set_xticks(range(COLUMNS), [f"{i + 1}" for i in range(COLUMNS)], fontsize=7)
    ax.set_yticks(range(len(layers)), [str(layer) for layer in layers], fontsize=7)
    ax.tick_params(length=0, pad=2)
    ax.set_xlabel("place by weight", fontsize=8)
    ax.spines[:].set_visible(False)


def _draw_row(ax: Axes, row: int, words: TopWords) -> None:
    from matplotlib.patches import Rectangle

    tokens = zip(words.tokens, words.weights, words.own, strict=True)
    for column, (token, weight, own) in enumerate(list(tokens)[:COLUMNS]):
        strength = 0.55 * min(max(weight, 0.0), 1.0) ** 0.5
        cell = Rectangle((column - 0.48, row - 0.45), 0.96, 0.9, fc=COLOURS[5], alpha=strength)
        cell.set_linewidth(0)
        ax.add_patch(cell)
        look: dict[str, Any] = {**(OWN if own else OTHER), "fontsize": 6.8, "family": _families()}
        ax.text(column, row, _drawable(token), **look, **CENTRED)


def _families() -> list[str]:
    """The fonts of `FONTS` that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [name for name in FONTS if name in installed]


def _drawable(token: str) -> str:
    """A token for a cell; letters without a glyph are escaped by their code point."""
    from matplotlib.font_manager import fontManager, get_font

    fonts = [get_font(fontManager.findfont(name)) for name in _families()]
    letters = [
        letter
        if any(font.get_char_index(ord(letter)) for font in fonts)
        else letter.encode("unicode_escape").decode("ascii")
        for letter in printable(token_label(token, LETTERS))
    ]
    return token_label("".join(letters), LETTERS)


def _caption(lens: WordLens, text: int, centred: bool) -> str:
    states = "states less their mean over the texts" if centred else "states as they are"
    excerpt = shortened(printable(" ".join(lens.shown[text].split())), 90)
    return (
        f"{lens.model.name}, {states}, prompt {lens.prompt.name}. Text: {excerpt} "
        "Bold: the text's own words; ground: weight among all tokens of this state alone "
        "(square root)."
    )
