"""The ID of ever fewer texts: does the order of layers hold as n grows?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.plots.parts import caption_below, colour_bar, grid
from kvlens.plots.profile_picture import DIMENSION
from kvlens.plots.style import COLOUR_MAP, axes_or_new, styled
from kvlens.plots.words import LAYER, named, shortened
from kvlens.store.arguments import choice_argument
from kvlens.store.checking import a, arguments, axes_to_draw_in, optional, real, text
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@arguments(
    profile=a(IDProfile, "a profile of `kvlens.estimate`"),
    estimator=optional(text),
    ax=optional(axes_to_draw_in),
    width=real(least=0.5),
)
@styled
def plot_decimation(
    profile: IDProfile, estimator: str | None = None, ax: Axes | None = None, width: float = 4.2
) -> Axes:
    """ID against the number of texts, a line a layer; lines that cross change the order of layers.

    Each mark is the mean over the parts of that size, the last one the ID of all texts.

    Args:
        profile: with a decimation.
        estimator: one of its estimators; by default the first.
        ax: where to draw; by default a new figure with a caption.
        width: of a new figure, in inches.

    Returns:
        The axes.

    Raises:
        InputError: the profile has no decimation, or not this estimator.
    """
    if not profile.decimation:
        raise InputError("the profile has no decimation: profile at least 200 texts again")
    first = next(iter(profile.estimates))
    name = choice_argument("estimator", estimator or first, profile.estimates)
    (axes,) = axes_or_new(ax, width, 0.95 * width)
    _draw_lines(axes, profile, name)
    axes.set_ylabel(f"{DIMENSION} ({named(name)})")
    axes.set_xlabel("texts")
    grid(axes)
    if ax is None:
        caption_below(axes, _caption(profile, name))
    return axes


def _draw_lines(ax: Axes, profile: IDProfile, estimator: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import NullLocator

    sizes, values = profile.decimated(estimator)
    colours = ScalarMappable(Normalize(0, max(profile.model.n_layers - 1, 1)), COLOUR_MAP)
    shades = colours.to_rgba(np.array(profile.layers))
    for shade, line in zip(shades, values.T, strict=True):
        ax.plot(sizes, line, color=shade, marker="o", ms=2.5, lw=1)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.set_ylim(0, 1.06 * float(np.max(values)))
    colour_bar(colours, ax, LAYER)


def _caption(profile: IDProfile, estimator: str) -> str:
    parts = len(next(iter(profile.decimation[-1].values.values()))) if profile.decimation else 0
    words = f"{shortened(profile.model.name)}: mean ID of up to {parts} parts of so many texts."
    order = profile.order(estimator)
    if order is None:
        return words
    words += f" Order of layers: Spearman between n/2 and n = {order.kept:.2f}"
    if order.between is None:
        return f"{words}."
    return f"{words}, between two halves that share no text {order.between:.2f}."
