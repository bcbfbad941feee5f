"""Pictures of the KV lens and of embedding geometry: pure functions, a result -> matplotlib Axes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.analysis.lens import SHARES, KVLens
from kvlens.analysis.method_geometry import PLAIN, Geometry
from kvlens.plots.style import COLOURS, DASHES, MARKERS, new_axes, save_figures, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {"k_pre": "K before RoPE", "k": "K after RoPE", "v": "V", "hidden": "hidden state"}
LAYER = "layer (0-based block index)"


def _look(i: int) -> dict[str, Any]:
    """Colour, marker and dash of line i: told apart without colour too."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)][0],
        "ls": DASHES[i % 4][0],
    }


def _finish(ax: Axes, **labels: Any) -> None:
    ax.set(**labels)
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)


def _below(own: Sequence[Axes], given: Any, words: str) -> None:
    """Words below a figure of our own; with the caller's axes, they are the caller's."""
    if given is None:
        figure: Any = own[0].figure
        words = "\n".join(
            textwrap.wrap(words, int(72 * figure.get_figwidth() / 4.2), break_on_hyphens=False)
        )
        figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5, color="0.25")


def _about(lens: KVLens) -> str:
    return f"{lens.model.name}, final token of n\u00a0=\u00a0{lens.texts.n:,} texts, prompt {lens.prompt.name}"


@styled
def plot_ranks(lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9) -> list[Axes]:
    """Effective rank, and directions that hold 90 % of the energy, of K and V per layer; all KV heads side by side.

    axes: two, where to draw; by default a new figure, `width` inches wide, with a caption below.
    """
    own = list(axes or new_axes(width, 0.36 * width + 0.5, columns=2))
    for i, kind in enumerate(kind for kind in NAMES if lens.spectra_of(kind)):
        found, span = lens.spectra_of(kind), (-0.5, lens.model.n_layers - 0.5)
        values = np.array([(one.effective_rank, one.directions[0]) for one in found]).T
        for ax, y in zip(own, values, strict=True):
            ax.plot([one.layer for one in found], y, label=NAMES[kind], ms=3, lw=1.2, **_look(i))
    most = min(lens.spectra[0].n - 1, max(one.d for one in lens.spectra if one.head is None))
    names = ("effective rank", "directions for 90 %")
    for ax, name in zip(own, names, strict=True):
        _finish(ax, xlabel=LAYER, ylabel=name, ylim=(0, 1.04 * most), xlim=span)
        ax.axhline(most, color="0.5", lw=0.8, ls=(0, (1, 2)))
        ax.text(0.01, most, f"most possible: {most}", va="top", fontsize=7.5, color="0.35",
                transform=ax.get_yaxis_transform())  # fmt: skip
    own[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderpad=0)
    sizes = f"{lens.model.n_kv_heads} x {lens.model.d_head}"
    _below(own, axes, f"{_about(lens)}; KV heads side by side, {sizes} dimensions.")
    return own


@styled
def plot_spectra(
    lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Singular spectra: share of the variance in the first 1, 2, ... directions, until 99 %; a curve per layer.

    axes: one for each of K before RoPE, K after it and V, as far as recorded; as in `plot_ranks`.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    kinds = [kind for kind in NAMES if lens.spectra_of(kind)]
    own = list(axes or new_axes(width, 0.32 * width + 0.6, columns=len(kinds), sharey=True))
    shades: Any = ScalarMappable(Normalize(0, lens.model.n_layers - 1), "cividis")
    for ax, kind in zip(own, kinds, strict=True):
        for one in lens.spectra_of(kind):
            ax.plot(
                range(1, len(one.energy) + 1), one.energy, color=shades.to_rgba(one.layer), lw=0.9
            )
        ax.axhline(SHARES[0], color="0.5", lw=0.8, ls=(0, (1, 2)))
        ax.set_title(NAMES[kind], fontsize=9)
        _finish(ax, xscale="log", ylim=(0, 1.02), xlabel="directions (log scale)")
        ax.set_xticks(
            ticks := [x for x in (1, 3, 10, 30, 100, 300) if x <= ax.get_xlim()[1]],
            list(map(str, ticks)),
        )
        ax.set_xticks([], minor=True)
    own[0].set_ylabel("share of the variance")
    bar: Any = own[0].figure.colorbar(
        shades, ax=own, pad=0.01, ticks=range(0, lens.model.n_layers, 5)
    )
    bar.set_label("layer")
    bar.outline.set_visible(False)
    _below(own, axes, f"{_about(lens)}; centred states, all KV heads side by side; dotted: 90 %.")
    return own


@styled
def plot_similarities(
    lens: KVLens, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """CKA and the ridge probe's R2 of each layer's states with the embeddings, beside those by permuted embeddings
    (grey: mean ± 2 standard deviations over the draws). axes: two; as in `plot_ranks`."""
    own = list(axes or new_axes(width, 0.36 * width + 0.7, columns=2))
    span = (-0.5, lens.model.n_layers - 0.5)
    names = {"cka": "debiased linear CKA", "r2": "R² of a ridge probe"}
    for ax, (measure, name) in zip(own, names.items(), strict=True):
        lowest = 0.0
        for i, kind in enumerate(NAMES):
            if found := lens.similarities_of(kind, measure):
                layers = [one.layer for one in found]
                chance, spread = (
                    np.array([getattr(o, f) for o in found]) for f in ("control", "control_sd")
                )
                ax.fill_between(
                    layers, chance - 2 * spread, chance + 2 * spread, color="0.75", lw=0, alpha=0.6
                )
                ax.plot(layers, chance, color="0.5", lw=0.8)
                values = [one.value for one in found]
                ax.plot(layers, values, label=NAMES[kind], ms=3, lw=1.2, **_look(i))
                lowest = min(lowest, *values, *(chance - 2 * spread))
        _finish(ax, xlabel=LAYER, ylabel=name, ylim=(min(lowest, 0) - 0.03, 1.05), xlim=span)
    own[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderpad=0)
    control = f"grey: embeddings permuted, mean ± 2 standard deviations over {lens.draws} draws"
    _below(
        own,
        axes,
        f"{_about(lens)}; similarity of each layer's states to the final embedding; {control}.",
    )
    return own


@styled
def plot_geometry(
    geometry: Geometry, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """By method: mean cosine and eigenvalue entropy (isotropy), and uniformity against alignment where there are
    positive pairs (else uniformity alone). axes: three; as in `plot_ranks`."""
    rows, paired = geometry.methods, all(row.alignment is not None for row in geometry.methods)
    own = list(axes or new_axes(width, max(0.24 * len(rows) + 1.1, 2.3), columns=3))
    y = np.arange(len(rows))
    panels = {
        "mean_cosine": "mean cosine\n(lower: more isotropic)",
        "eigenvalue_entropy_ratio": "eigenvalue entropy\n(higher: more isotropic)",
        "uniformity": "uniformity\n(lower: more uniform)",
    }
    for k, (ax, (field, name)) in enumerate(zip(own, panels.items(), strict=True)):
        scatter = paired and k == 2
        for i, row in enumerate(rows):
            at = (row.alignment, getattr(row, field)) if scatter else (getattr(row, field), y[i])
            looks = {**_look(i), "ls": "", "ms": 6, "mec": "white", "mew": 0.5}
            if row.label == PLAIN:  # hollow and larger, since kv_embedding often lies upon it
                looks |= {"ms": 8, "mfc": "none", "mec": looks["color"], "mew": 1.3}
            ax.plot(*at, **looks, clip_on=False, label=row.label)
        ax.grid(color="0.9", lw=0.6)
        ax.set_axisbelow(True)
        ax.margins(0.15)
        if scatter:
            ax.set(xlabel="alignment\n(lower: pairs nearer)", ylabel=name)
            continue
        ax.set(xlabel=name, ylim=(len(rows) - 0.5, -0.5))
        ax.set_yticks(
            y, [row.label.replace(" (", "\n(") for row in rows] if k == 0 else [""] * len(rows)
        )
        if k < 2:
            ax.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    pairs = f"; {geometry.n_pairs:,} positive pairs" if paired else ""
    _below(own, axes, f"{geometry.model.name}; n\u00a0=\u00a0{geometry.n:,} texts{pairs}.")
    return own


@styled
def plot_sentences(
    geometry: Geometry, axes: Sequence[Axes] | None = None, width: float = 6.9, bar: bool = True
) -> list[Axes]:
    """Cosine similarities of related and unrelated sentences, a square per method, all in one colour scale that ends
    at 1; frames: one topic; gap: mean within topics less that across. axes: one per method; as in `plot_ranks`."""
    from matplotlib.patches import Rectangle

    groups, n = np.array(geometry.groups), len(geometry.groups)
    same = groups[:, None] == groups
    low = np.floor(10 * np.min([*geometry.cosines.values()])) / 10
    rows = -(-len(geometry.cosines) // 6)
    columns = -(-len(geometry.cosines) // rows)
    own = list(
        axes
        or new_axes(width, rows * (0.9 * width / columns + 0.6) + 0.3, rows=rows, columns=columns)
    )
    for ax in own[len(geometry.cosines) :]:
        ax.set_axis_off()
    for ax, (label, values) in zip(own, geometry.cosines.items(), strict=False):
        cosines = np.array(values)
        image = ax.imshow(cosines, "cividis", vmin=low, vmax=1, extent=(0, n, n, 0))
        gap = cosines[same & ~np.eye(n, dtype=bool)].mean() - cosines[~same].mean()
        ax.set_title(
            f"{label.replace(' (', chr(10) + '(')}\ngap {round(gap, 2) + 0.0:.2f}", fontsize=7
        )
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        for group in np.unique(groups):
            first, count = int((groups == group).argmax()), int((groups == group).sum())
            ax.add_patch(Rectangle((first, first), count, count, fill=False, ec=COLOURS[1], lw=1))
    if bar:
        scale: Any = own[0].figure.colorbar(image, ax=own, pad=0.01, aspect=15)
        scale.set_label("cosine similarity")
        scale.outline.set_visible(False)
    _below(own, axes, f"{geometry.model.name}; {n} sentences; frames: sentences of one topic; gap: mean cosine "
           "within topics less that across them.")  # fmt: skip
    return own


def save_lens_plots(
    lens: KVLens | None, geometry: Geometry | None, folder: str | Path
) -> list[Path]:
    """Write every picture as PNG and PDF, as `kvlens.plots.save_figures` does."""
    pictures: dict[str, list[Axes]] = {}
    if lens is not None:
        pictures = {"kv_ranks": plot_ranks(lens), "kv_spectra": plot_spectra(lens)}
        if lens.similarities:
            pictures["kv_similarity"] = plot_similarities(lens)
    if geometry is not None:
        pictures |= {"geometry": plot_geometry(geometry), "sentences": plot_sentences(geometry)}
    return save_figures({name: axes[0].figure for name, axes in pictures.items()}, folder)
