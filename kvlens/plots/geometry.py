"""The embedding spaces of several methods: how isotropic, and which sentences lie close."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from kvlens.analysis.method_geometry import PLAIN, Geometry, MethodGeometry
from kvlens.plots.parts import caption_below, colour_bar, grid, heat_map, is_leftmost
from kvlens.plots.style import COLOURS, Look, axes_or_new, styled
from kvlens.plots.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIFORMITY = "uniformity\n(lower: more uniform)"
MOST_COLUMNS = 6  # squares of sentences side by side


@styled
def plot_geometry(
    geometry: Geometry, axes: Sequence[Axes] | None = None, width: float = 6.9
) -> list[Axes]:
    """Isotropy of the embeddings by method, and uniformity against alignment.

    Mean cosine and eigenvalue entropy; uniformity alone where there are no positive pairs.

    Args:
        geometry: of the methods' embeddings.
        axes: three, where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The three axes.
    """
    rows = geometry.methods
    height = max(0.24 * len(rows) + 1.1, 2.3)
    panels = axes_or_new(axes, width, height, columns=3)
    cosine, entropy, uniformity = panels
    _draw_rows(cosine, rows, "mean_cosine")
    cosine.set_xlabel("mean cosine\n(lower: more isotropic)")
    _draw_rows(entropy, rows, "eigenvalue_entropy_ratio")
    entropy.set_xlabel("eigenvalue entropy\n(higher: more isotropic)")
    for ax in (cosine, entropy):
        ax.set_xlim(0, 1)
        ax.set_xticks((0, 0.5, 1))
    words = f"{geometry.model.name}; {counted(geometry.n, 'texts')}"
    if all(row.alignment is not None for row in rows):
        _draw_alignment(uniformity, rows)
        words = f"{words}; {geometry.n_pairs:,} positive pairs"
    else:
        _draw_rows(uniformity, rows, "uniformity")
        uniformity.set_xlabel(UNIFORMITY)
    if axes is None:
        caption_below(cosine, f"{words}.")
    return panels


@styled
def plot_sentences(
    geometry: Geometry, axes: Sequence[Axes] | None = None, width: float = 6.9, bar: bool = True
) -> list[Axes]:
    """Cosine similarities of related and unrelated sentences, a square per method.

    All in one colour scale that ends at 1. Frames: one topic. Gap: mean within topics less that
    across.

    Args:
        geometry: of the methods' embeddings.
        axes: one per method, further ones stay empty; by default a new figure with a caption
            below.
        width: of a new figure, in inches.
        bar: whether to draw the scale of the colours.

    Returns:
        The axes.
    """
    n_methods = len(geometry.cosines)
    rows = -(-n_methods // MOST_COLUMNS)
    columns = -(-n_methods // rows)
    height = rows * (0.9 * width / columns + 0.6) + 0.3
    panels = axes_or_new(axes, width, height, rows=rows, columns=columns)
    for ax in panels[n_methods:]:
        ax.set_axis_off()
    groups = np.array(geometry.groups)
    lowest = np.floor(10 * np.min([*geometry.cosines.values()])) / 10
    for ax, (label, values) in zip(panels, geometry.cosines.items(), strict=False):
        cosines = np.array(values)
        image = _draw_square(ax, cosines, groups, lowest)
        ax.set_title(f"{_folded(label)}\ngap {_gap(cosines, groups):.2f}", fontsize=7)
    if bar:
        colour_bar(image, panels, "cosine similarity", pad=0.01, aspect=15)
    if axes is None:
        frames = f"{len(groups)} sentences; frames: sentences of one topic"
        gap = "gap: mean cosine within topics less that across them"
        caption_below(panels[0], f"{geometry.model.name}; {frames}; {gap}.")
    return panels


def _folded(label: str) -> str:
    """A method's label on two lines, what is in brackets below."""
    return label.replace(" (", "\n(")


def _look(i: int, row: MethodGeometry) -> dict[str, Any]:
    """Of method i: hollow and larger without re-routing, since kv_embedding often lies upon it."""
    mark = Look.of(i).mark
    if row.label == PLAIN:
        return {**mark, "ms": 8, "mfc": "none", "mec": mark["color"], "mew": 1.3}
    return {**mark, "ms": 6, "mec": "white", "mew": 0.5}


def _draw_rows(ax: Axes, rows: Sequence[MethodGeometry], field: str) -> None:
    """A row a method, the first on top, at its value of `field`."""
    for i, row in enumerate(rows):
        ax.plot(getattr(row, field), i, **_look(i, row), clip_on=False, label=row.label)
    grid(ax, "both")
    ax.margins(0.15)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    names = (
        [_folded(row.label) for row in rows] if field == "mean_cosine" or is_leftmost(ax) else []
    )
    ax.set_yticks(range(len(rows)), names or [""] * len(rows))


def _draw_alignment(ax: Axes, rows: Sequence[MethodGeometry]) -> None:
    """A point a method: alignment of positive pairs, and uniformity (Wang and Isola 2020)."""
    for i, row in enumerate(rows):
        place: Any = (row.alignment, row.uniformity)
        ax.plot(*place, **_look(i, row), clip_on=False, label=row.label)
    grid(ax, "both")
    ax.margins(0.15)
    ax.set_xlabel("alignment\n(lower: pairs nearer)")
    ax.set_ylabel(UNIFORMITY)


def _draw_square(
    ax: Axes, cosines: Float[np.ndarray, "n n"], groups: Int[np.ndarray, " n"], lowest: float
) -> Any:
    """Cosines of n sentences, topics framed; returns the image."""
    from matplotlib.patches import Rectangle

    n = len(groups)
    image = heat_map(ax, cosines, (0, n, n, 0), aspect="equal", vmin=lowest, vmax=1)
    ax.set_xticks([])
    ax.set_yticks([])
    for group in np.unique(groups):
        members = groups == group
        first = int(members.argmax())
        count = int(members.sum())
        ax.add_patch(Rectangle((first, first), count, count, fill=False, ec=COLOURS[1], lw=1))
    return image


def _gap(cosines: Float[np.ndarray, "n n"], groups: Int[np.ndarray, " n"]) -> float:
    """Mean cosine of different sentences within topics less that across; never minus zero."""
    related = groups[:, None] == groups
    different = ~np.eye(len(groups), dtype=bool)
    gap = cosines[related & different].mean() - cosines[~related].mean()
    return round(gap, 2) + 0.0
