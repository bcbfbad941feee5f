"""The ID profile by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.parts import band, grey_unable, grid, legend_above, shade_layers
from kvlens.plots.profile_marks import draw_sink, draw_strip
from kvlens.plots.profile_picture import (
    DIMENSION,
    Curve,
    LayerSets,
    ProfilePicture,
    Profiles,
)
from kvlens.plots.style import (
    CAPTION,
    SHADE,
    SHADE_ALPHA,
    STYLE,
    UNABLE,
    UNABLE_ALPHA,
    new_axes,
)
from kvlens.plots.words import SINK_BLOCK, UNABLE_LAYERS, letters, wrapped
from kvlens.store.checking import a, arguments, axes_to_draw_in, flag, members, optional, real
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

HANDLE = 7  # letters that a legend's handle takes
LINE_HEIGHT = 0.16  # inches of a line of words


def _profiles(name: str, value: Any) -> Any:
    """The check of a profile or several."""
    if isinstance(value, IDProfile):
        return value
    profiles = members(a(IDProfile, "a profile of `kvlens.estimate`"), "profiles")(name, value)
    if not profiles:
        raise InputError(f"`{name}` is empty; give a profile")
    return profiles


def _layer_sets(name: str, value: Any) -> Any:
    """The check of a layer set or several, of which some may be None."""
    if isinstance(value, LayerSet):
        return value
    return members(optional(a(LayerSet, "a layer set of `kvlens.select`")), "layer sets")(
        name, value
    )


@arguments(
    profiles=_profiles,
    layer_sets=optional(_layer_sets),
    ax=optional(axes_to_draw_in),
    relative_depth=optional(flag),
    width=real(least=0.5),
)
def plot_profile(
    profiles: Profiles,
    layer_sets: LayerSets = None,
    ax: Axes | None = None,
    relative_depth: bool | None = None,
    width: float = 5.0,
) -> Axes:
    """ID per layer with its 95 % band (1.96 standard errors), and the chosen layers.

    One profile: every estimator; the chosen layers are shaded, b* is a dotted line, and a strip
    below shows in which share of the draws the rule takes each layer. Several: the first estimator
    of each, one colour a profile, the chosen layers as outlined markers. Layers of the one model
    that cannot be re-routed are greyed. Nothing global is changed.

    Args:
        profiles: one or several.
        layer_sets: one per profile, or None.
        ax: where to draw, best in a figure with ``layout="constrained"``, which makes room for
            the caption; by default a new figure.
        relative_depth: whether x is ``layer / (n_layers - 1)``; by default of several profiles.
        width: of a new figure, in inches; legible when printed at 3.3 in (one column) or 6.9 in.

    Returns:
        The axes.

    Raises:
        InputError: there is no profile, or a layer set does not fit its profile.
    """
    from matplotlib import rc_context

    picture = ProfilePicture.of(profiles, layer_sets, relative_depth)
    if ax is not None:
        figure: Any = ax.get_figure(root=True)
        with rc_context({"text.parse_math": STYLE["text.parse_math"]}):
            _draw(picture, ax, ax.get_window_extent().width / figure.dpi)
        return ax
    with rc_context(STYLE):
        (ax,) = new_axes(width, width)
        lines = _draw(picture, ax, width - 0.6)
        figure = ax.figure
        figure.set_figheight(0.5 * width + 0.55 + LINE_HEIGHT * lines)
    return ax


def _draw(picture: ProfilePicture, ax: Axes, inches: float) -> int:
    """Draw into axes about `inches` wide; return how many lines of words are around them."""
    size = float(np.clip(36 * inches / picture.n_layers, 1.4, 4.0))
    handles = []
    for curve in picture.curves:
        handles.append(_draw_curve(ax, curve, size))
        if picture.several:
            _outline_chosen(ax, curve, size + 2)
    for left, right in picture.spans:
        shade_layers(ax, left, right)
    grey_unable(ax, picture.unable)
    labels = [curve.label for curve in picture.curves]
    if picture.chosen:
        handles.append(_chosen_handle(picture.several))
        labels.append(picture.chosen)
    if picture.sink is not None:
        handles.append(draw_sink(ax, picture.sink))
        labels.append(SINK_BLOCK)
    if picture.unable:
        handles.append(_patch(UNABLE, UNABLE_ALPHA))
        labels.append(UNABLE_LAYERS)
    _draw_axes(picture, ax, inches)
    if picture.strip:
        handles.append(draw_strip(ax, picture.strip))
        labels.append(picture.strip.label)
    room = letters(inches)
    return _draw_legend(ax, handles, labels, room) + _draw_caption(ax, picture.caption, room)


def _draw_curve(ax: Axes, curve: Curve, size: float) -> Artist:
    """Band, line and marks of `size` points, hollow where in doubt; returns the line."""
    colour = curve.look.colour
    band(ax, curve.x, curve.low, curve.high, color=colour, alpha=0.18)
    (line,) = ax.plot(curve.x, curve.y, ms=size, lw=1.3, **curve.look.line)
    hollow: dict[str, Any] = {"ms": size + 0.8, "mfc": "white", "mec": colour, "zorder": 3}
    doubtful = curve.in_doubt
    ax.plot(curve.x[doubtful], curve.y[doubtful], **curve.look.mark, **hollow)
    return line


def _outline_chosen(ax: Axes, curve: Curve, size: float) -> None:
    """Larger marks with a black edge at the chosen layers."""
    chosen = curve.at_chosen
    ax.scatter(
        curve.x[chosen],
        curve.y[chosen],
        s=size**2,
        c=np.where(curve.in_doubt, "white", curve.look.colour)[chosen],
        marker=curve.look.marker[0],
        lw=1,
        ec="black",
        zorder=4,
    )


def _chosen_handle(several: bool) -> Artist:
    """What stands for the chosen layers in the legend."""
    from matplotlib.lines import Line2D

    if several:
        return Line2D([], [], ls="", marker="o", ms=6, mfc="0.75", mec="black")
    return _patch(SHADE, SHADE_ALPHA)


def _patch(colour: str, alpha: float) -> Artist:
    """What stands for shaded layers in the legend."""
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=alpha, lw=0)


def _draw_axes(picture: ProfilePicture, ax: Axes, inches: float) -> None:
    """Labels, limits, ticks and grid."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel(picture.x_label)
    ax.set_ylabel(DIMENSION)
    ax.set_ylim(0, picture.top)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    grid(ax)
    ax.set_xlim(*picture.x_range)
    if not picture.relative:
        layers = range(picture.n_layers)
        ax.set_xticks(layers[:: picture.label_step(4 * inches)])
        ax.set_xticks(layers if len(layers) <= 40 else (), minor=True)


def _draw_legend(ax: Axes, handles: Sequence[Artist], labels: Sequence[str], room: int) -> int:
    """A legend above, in as many columns as fit `room` letters; returns its lines."""
    folded = [wrapped(label, room - HANDLE, at_hyphens=True) for label in labels]
    columns = _legend_columns(labels, room)
    entries = ["\n".join(lines) for lines in folded]
    spaces = {"borderaxespad": 0.2, "handlelength": 1.8, "columnspacing": 1.2}
    legend_above(ax, columns, handles, entries, **spaces)
    rows = -(-len(labels) // columns)
    return rows + sum(len(lines) - 1 for lines in folded)


def _legend_columns(labels: Sequence[str], room: int) -> int:
    """The most columns whose widest entries still fit side by side."""
    widths = sorted((min(len(label), room - HANDLE) + HANDLE for label in labels), reverse=True)
    columns = 1
    while columns < len(widths) and sum(widths[: columns + 1]) <= room:
        columns += 1
    return columns


def _draw_caption(ax: Axes, words: str, room: int) -> int:
    """Words below the label of the x axis; returns how many lines they are."""
    lines = wrapped(words, room)
    ax.annotate(
        "\n".join(lines),
        xy=(0, 0),
        xycoords=("axes fraction", ax.xaxis.label),
        xytext=(0, -6),
        textcoords="offset points",
        va="top",
        fontsize=7.5,
        color=CAPTION,
    )
    return len(lines)
