"""What many pictures draw alike: grid, caption, colours, bands, error bars, shades, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from kvlens.models.info import ModelInfo
from kvlens.plots.style import (
    CAPTION,
    COLOUR_MAP,
    GRID,
    SHADE,
    SHADE_ALPHA,
    STRIPE,
    UNABLE,
    UNABLE_ALPHA,
)
from kvlens.plots.words import UNABLE_LAYERS, letters, wrapped
from kvlens.store.layer_ranges import runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = Float[np.ndarray, " n"] | Sequence[float]


class Interval(Protocol):
    """A value with its interval."""

    @property
    def value(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


def grid(ax: Axes, axis: Literal["both", "x", "y"] = "y") -> None:
    """Pale lines behind the data, at the ticks of `axis`."""
    ax.grid(axis=axis, color=GRID, lw=0.6)
    ax.set_axisbelow(True)


def is_leftmost(ax: Axes) -> bool:
    """Whether no other axes of its grid are to the left: it names the rows that they share."""
    place = ax.get_subplotspec()
    return place is not None and place.is_first_col()


def caption_below(ax: Axes, words: str) -> None:
    """Words below the figure of `ax`, as wide as it is."""
    figure: Any = ax.figure
    lines = wrapped(words, letters(figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=CAPTION)


def colour_bar(mappable: Any, axes: Axes | Sequence[Axes], label: str, **options: Any) -> None:
    """The scale of a map's colours, beside `axes`.

    Args:
        mappable: the image, or what else knows the colours.
        axes: one or several of one figure, which give room to the bar.
        label: what the colours mean.
        options: further keywords of ``Figure.colorbar``.
    """
    first: Any = axes[0] if isinstance(axes, Sequence) else axes
    bar = first.figure.colorbar(mappable, ax=axes, **options)
    bar.set_label(label)
    bar.outline.set_visible(False)


def heat_map(
    ax: Axes,
    values: Float[np.ndarray, "rows columns"],
    extent: tuple[float, float, float, float],
    **options: Any,
) -> Any:
    """Draw `values` as colours, without a frame.

    Args:
        ax: where to draw.
        values: row 0 on top; masked ones stay empty.
        extent: left, right, bottom and top edge on the axes.
        options: further keywords of ``Axes.imshow``, the scale of the colours above all.

    Returns:
        The image.
    """
    look = {"aspect": "auto", **options}
    image = ax.imshow(values, COLOUR_MAP, extent=extent, **look)
    ax.spines[:].set_visible(False)
    return image


def band(ax: Axes, x: Vector, low: Vector, high: Vector, **look: Any) -> None:
    """Fill the space between `low` and `high`, without an edge."""
    ax.fill_between(x, low, high, lw=0, **look)


def horizontal_bars(ax: Axes, y: Vector, intervals: Sequence[Interval], **look: Any) -> None:
    """Values with their intervals, along x; look: keywords of ``Axes.errorbar``."""
    value, error = _value_and_error(intervals)
    ax.errorbar(value, y, xerr=error, **look)


def vertical_bars(ax: Axes, x: Vector, intervals: Sequence[Interval], **look: Any) -> None:
    """Values with their intervals, along y; look: keywords of ``Axes.errorbar``."""
    value, error = _value_and_error(intervals)
    ax.errorbar(x, value, error, **look)


def _value_and_error(
    intervals: Sequence[Interval],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "2 n"]]:
    """Values, and how far their intervals reach below and above them."""
    value = np.array([interval.value for interval in intervals])
    low = np.array([interval.low for interval in intervals])
    high = np.array([interval.high for interval in intervals])
    return value, np.array([value - low, high - value])


def shade_layers(ax: Axes, left: float, right: float) -> None:
    """The colour of chosen layers behind the data, over the whole height."""
    ax.axvspan(left, right, color=SHADE, alpha=SHADE_ALPHA, lw=0, zorder=0)


def unable_spans(model: ModelInfo) -> list[tuple[float, float]]:
    """Where layers lie that cannot be re-routed: their unbroken runs, half a layer wider."""
    able = set(model.layers_to_reroute())
    unable = [layer for layer in range(model.n_layers) if layer not in able]
    return [(first - 0.5, last + 0.5) for first, last in runs(unable)]


def grey_unable(ax: Axes, spans: Sequence[tuple[float, float]]) -> None:
    """Light grey bands, over the whole height, with one entry in the legend."""
    look: dict[str, Any] = {"color": UNABLE, "alpha": UNABLE_ALPHA, "lw": 0, "zorder": -1}
    for i, (left, right) in enumerate(spans):
        label = UNABLE_LAYERS if i == 0 else None
        ax.axvspan(left, right, label=label, **look)


def stripe_rows(ax: Axes, first: float, last: float, colour: str = STRIPE) -> None:
    """A pale stripe behind the rows `first` to `last`, over the whole width."""
    ax.axhspan(first - 0.5, last + 0.5, color=colour, lw=0, zorder=-1)


def legend_above(ax: Axes, columns: int, *handles_and_labels: Any, **options: Any) -> None:
    """A legend without a frame above the axes, from their left edge on.

    Args:
        ax: whose curves are named.
        columns: of the legend.
        handles_and_labels: as of ``Axes.legend``; by default all curves with a label.
        options: further keywords of ``Axes.legend``.
    """
    ax.legend(
        *handles_and_labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        borderpad=0,
        **options,
    )


def figure_legend(ax: Axes, side: Literal["upper", "lower"], columns: int = 4) -> None:
    """A legend of the curves of `ax` for its whole figure, above or below all axes."""
    figure: Any = ax.get_figure(root=True)
    entries = ax.get_legend_handles_labels()
    figure.legend(*entries, loc=f"outside {side} center", ncols=columns, frameon=False)
