"""Pictures of attention: pure functions, a result of `kvlens.attention` -> matplotlib Axes; and `kvlens attend`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.analysis.attention import (
    KINDS,
    AttentionPatterns,
    AttentionShift,
    attention_patterns,
    attention_shift,
    token_label,
)
from kvlens.plots.style import COLOURS, MARKERS, STYLE, new_axes
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts

MOST = 44  # tokens that fit on an axis; longer texts are shown in that many bins
MAP = "cividis"  # told apart with every common colour vision, and in grey
WORDS = {
    "local": "local: own layer's prefix, inputs unchanged",
    "propagated": "propagated: layers below re-routed too",
    "prompted": "the prompted text",
    "text": "the text's own tokens",
}


def _caption(result: AttentionShift | AttentionPatterns, *more: str, width: float) -> str:
    biases = [f"{b:g}" for b in dict.fromkeys(result.bias)]
    text = f"{result.model.name}; {phrase(result.layers)} of {result.model.n_layers} re-routed, bias {', '.join(biases)}"
    text = f"{text}, position {result.position}; prompt {result.prompt.name}; {'; '.join(more)}."
    return "\n".join(textwrap.wrap(text, int(72 * width / 4.0), break_on_hyphens=False))


def _corpus(shift: AttentionShift) -> str:
    return f"n\u00a0=\u00a0{shift.texts.n:,} texts, {sum(shift.n_tokens):,} tokens; positions over {WORDS[shift.span]}"


def _below(axes: Axes | tuple[Axes, Axes] | None, ax: Axes, words: str) -> None:
    """Words below a figure of our own; with the caller's axes, they are the caller's."""
    figure: Any = ax.figure
    if axes is None:
        figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color="0.25")


def _one(shift: AttentionShift, kind: str, head: int | None) -> str:
    if kind not in KINDS or not (head is None or 0 <= head < shift.model.n_heads):
        raise InputError(
            f"no {kind} effect of head {head}: give {' or '.join(KINDS)}, heads 0 to {shift.model.n_heads - 1}"
        )
    return f"mean over {shift.model.n_heads} heads" if head is None else f"head {head}"


def plot_beta(
    shift: AttentionShift,
    kind: str = "local",
    head: int | None = None,
    ax: Axes | None = None,
    width: float = 5.0,
) -> Axes:
    """Heatmap of beta, the prefix's weight, by layer and relative position: one head, or the mean over heads.

    Colours run from 0 to the largest mean of both kinds, so that pictures of the two compare. ax, width: as in
    `kvlens.plots.plot_profile`. Raises InputError for an unknown kind or head.
    """
    from matplotlib import rc_context

    which = _one(shift, kind, head)
    both = [shift.arrays[f"beta.{k}.mean"] for k in KINDS]
    both = [values.mean(1) if head is None else values[:, head] for values in both]
    values, top = both[KINDS.index(kind)], float(np.nanmax(both))
    n, bins = values.shape
    with rc_context(STYLE):
        own = ax or new_axes(width, 1.35 + min(0.34 * n, 0.16 * n + 1.5))[0]
        image = own.imshow(
            values, MAP, aspect="auto", vmin=0, vmax=top or 1, extent=(0, 100, n - 0.5, -0.5)
        )
        own.spines[:].set_visible(False)
        step = max(1, -(-n // 16))
        own.set_yticks(range(0, n, step), [str(layer) for layer in shift.layers[::step]])
        own.set_xticks(range(0, 101, 20))
        own.set(
            xlabel=f"relative position of the token, % of {WORDS[shift.span]}",
            ylabel="re-routed layer",
        )
        if n * bins <= 120 and bins <= 12:
            for row, column in np.argwhere(np.isfinite(values)):
                value, x = values[row, column], 100 * (column + 0.5) / bins
                colour = "white" if value < 0.55 * top else "black"
                own.text(
                    x,
                    row,
                    f"{value:.2f}".lstrip("0"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=colour,
                )
        bar: Any = own.figure.colorbar(image, ax=own, pad=0.02)
        bar.set_label("prefix's weight β")
        bar.outline.set_visible(False)
        own.set_title(f"{WORDS[kind]} ({which})", fontsize=9, loc="left")
        _below(ax, own, _caption(shift, _corpus(shift), width=width))
    return own


def plot_ends(shift: AttentionShift, ax: Axes | None = None, width: float = 5.0) -> Axes:
    """beta (mean over heads) of the first against the last tenth of the tokens, per layer; bars: one standard
    deviation over texts. Filled: local; hollow: propagated. ax, width: as in `plot_beta`."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        own = ax or new_axes(width, 0.45 * width + 1.0)[0]
        x = np.arange(len(shift.layers))
        for k, kind in enumerate(KINDS):
            mean, std, n = shift.ends(kind)
            for end, name in enumerate(("first 10 %", "last 10 %")):
                colour, marker = COLOURS[end], MARKERS[end][0]
                at, spread = x + 0.32 * end + 0.16 * k - 0.24, std[end] if n > 1 else None
                looks: dict[str, Any] = {
                    "color": colour,
                    "mfc": "white" if k else colour,
                    "label": f"{name}, {kind}",
                }
                own.errorbar(
                    at, mean[end], spread, ls="", marker=marker, ms=5, lw=1, capsize=2, **looks
                )
        step = max(1, -(-len(x) // 16))
        own.set_xticks(x[::step], [str(layer) for layer in shift.layers[::step]])
        own.set_ylim(0)
        own.set(xlabel="re-routed layer", ylabel="prefix's weight β")
        own.grid(axis="y", color="0.9", lw=0.6)
        own.set_axisbelow(True)
        own.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            frameon=False,
            borderpad=0,
            borderaxespad=0.3,
        )
        bars = f"points: mean over {shift.model.n_heads} heads and {n} texts; bars: ±1 standard deviation over texts"
        _below(ax, own, _caption(shift, _corpus(shift), bars, width=width))
    return own


def plot_patterns(
    patterns: AttentionPatterns,
    layer: int,
    head: int | None = None,
    kind: str = "propagated",
    axes: tuple[Axes, Axes] | None = None,
    width: float = 6.9,
) -> tuple[Axes, Axes]:
    """Attention of one layer before and after on one text, queries downwards; the prefix as its own column, apart.

    Of one head, or the mean over heads. Up to 44 tokens are shown as they are, longer texts in bins of tokens: the
    mean over a bin's queries of their weight on a bin's keys, so that rows still sum to 1. The colour is the square
    root of the weight: else the sink alone would show. Raises InputError for an unknown layer, kind or head.
    """
    from matplotlib import rc_context
    from matplotlib.colors import PowerNorm

    count = patterns.model.n_heads
    if layer not in patterns.layers or kind not in KINDS or not (head is None or 0 <= head < count):
        raise InputError(
            f"no {kind} pattern of layer {layer}, head {head}; layers {list(patterns.layers)}"
        )
    row, n = patterns.layers.index(layer), len(patterns.tokens)
    before, after, beta = (patterns.arrays[name][row] for name in ("before", "after", "beta"))
    if kind == "local":
        after = np.concatenate([beta[..., None], (1 - beta[..., None]) * before], axis=-1)
    before, after = (p.mean(0) if head is None else p[head] for p in (before, after))
    edges = np.unique(np.linspace(0, n, min(n, MOST) + 1).round().astype(int))
    width_of, starts = np.diff(edges), edges[:-1]

    def binned(pattern: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(pattern, starts, 0) / width_of[:, None], starts, 1)

    shown = before if n <= MOST else binned(before)
    right = after[:, 1:] if n <= MOST else binned(after[:, 1:])
    prefix = (
        after[:, :1] if n <= MOST else np.add.reduceat(after[:, :1], starts, 0) / width_of[:, None]
    )
    m = len(shown)
    with rc_context(STYLE):
        left, other = axes or new_axes(width, 0.56 * width + 0.9, columns=2)
        norm = PowerNorm(0.5, 0, max(float(shown.max()), float(right.max()), float(prefix.max())))
        future = np.triu(np.ones((m, m), dtype=bool), 1)
        for ax, square, title in ((left, shown, "before"), (other, right, f"after ({kind})")):
            ax.imshow(
                np.ma.masked_where(future, square),
                MAP,
                norm=norm,
                aspect="auto",
                extent=(0, m, m, 0),
            )
            ax.spines[:].set_visible(False)
            names = [_plain(token) for token in patterns.tokens] if n <= MOST else []
            at = np.arange(m) + 0.5 if names else np.linspace(0, m, 5)
            names = names or [str(round(n * x / m)) for x in at]
            small = {"fontsize": 5.5 if n > 25 else 7} if n <= MOST else {"fontsize": 8}
            ax.set_xticks(at, names, rotation=90 if n <= MOST else 0, **small)
            ax.set_yticks(at, names if ax is left else [""] * len(at), **small)
            ax.tick_params(length=2 if n > MOST else 0)
            ax.set_title(title, fontsize=9)
            ax.set_xlabel(
                "key token" if n <= MOST else f"key token (mean weight, {m} bins of tokens)"
            )
        left.set_ylabel("query token")
        image = other.imshow(
            prefix, MAP, norm=norm, aspect="auto", extent=(-0.09 * m, -0.03 * m, m, 0)
        )
        other.set_xlim(-0.09 * m, m)
        other.text(
            -0.06 * m, -0.01 * m, "prefix", ha="center", va="bottom", fontsize=7.5, color=COLOURS[1]
        )
        other.add_patch(_frame((-0.09 * m, 0), 0.06 * m, m))
        bar: Any = other.figure.colorbar(image, ax=[left, other], pad=0.01, aspect=30)
        bar.set_label("attention weight (square-root colours)")
        bar.outline.set_visible(False)
        mass = f"mean β {prefix.mean():.2f}" if n <= MOST else f"mean β {after[:, 0].mean():.2f}"
        which = f"mean over {count} heads" if head is None else f"head {head}"
        told = _caption(patterns, f"layer {layer}, {which}; {n} tokens; {mass}", width=width)
        _below(axes, other, told)
    return left, other


def _frame(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, ec=COLOURS[1], lw=1, clip_on=False)


def _plain(token: str) -> str:
    """A token for an axis; characters that the font lacks are boxes."""
    from matplotlib.font_manager import fontManager, get_font

    known = get_font(fontManager.findfont("DejaVu Sans"))
    return "".join(c if known.get_char_index(ord(c)) else "□" for c in token_label(token))


def save_attention_plots(
    result: AttentionShift | AttentionPatterns, folder: str | Path
) -> list[Path]:
    """Write every picture of a result as PNG (200 dots an inch) and PDF: the same input gives the same bytes.

    Patterns: one picture a layer, mean over heads. Raises InputError when the folder cannot be written.
    """
    from matplotlib import rc_context

    if isinstance(result, AttentionShift):
        figures = {f"beta_{kind}": plot_beta(result, kind).figure for kind in KINDS}
        figures["beta_ends"] = plot_ends(result).figure
    else:
        figures = {
            f"patterns_layer{layer}": plot_patterns(result, layer)[0].figure
            for layer in result.layers
        }
    paths = [Path(folder) / f"{stem}.{kind}" for stem in figures for kind in ("png", "pdf")]
    for path in paths:
        figure: Any = figures[path.stem]
        with atomic_path(path) as temporary, rc_context(STYLE):
            undated = {"CreationDate": None, "ModDate": None} if path.suffix == ".pdf" else {}
            figure.savefig(temporary, dpi=200, metadata=undated)
    return paths


def attend(
    lm: LanguageModel,
    layers: Any,
    folder: str | Path,
    text: str | None = None,
    texts: Texts | None = None,
    prompt: str | None = None,
    force: bool = False,
    **options: Any,
) -> AttentionShift | AttentionPatterns:
    """`kvlens attend`: one text in full, or a corpus, written to `folder` as .safetensors, PNG and PDF.

    layers: a LayerSet or its file (bias, position and document prompt come along), or block indices. options: of
    `attention_patterns` or `attention_shift`. Raises InputError as they and `Encoder`.
    """
    from kvlens.embedding.encoder import Encoder

    if (text is None) == (texts is None):
        raise InputError("give either one text or a file of texts")
    method: Any = Encoder(lm, "kv_embedding", layers, force=force).method
    request = (method.layers, method.bias, method.position, prompt or method.document)
    result: AttentionShift | AttentionPatterns
    if text is not None:
        result = attention_patterns(lm, text, *request, **options)
    else:
        result = attention_shift(lm, texts or (), *request, **options)
    result.save(Path(folder) / ("shift.safetensors" if text is None else "patterns.safetensors"))
    save_attention_plots(result, folder)
    return result
