"""What a profile's picture shows beside its curves: the place of b*, and a strip of stability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.style import STRIPE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

SINK = "#000000"  # the line of b*
TAKEN = "#555555"  # the bars of the strip

# Points below the axis: where the strip begins, under the ticks, how high it is, and where the
# numbers of the ticks begin.
STRIP_TOP = 5.0
STRIP_HEIGHT = 9.0
TICK_PAD = 13.0


@dataclass(frozen=True)
class Strip:
    """How often a rule takes each layer.

    Attributes:
        layers: those that it takes from some draw, ascending.
        x: where they lie.
        shares: of the draws, 0 to 1.
        width: of a layer on the x axis.
        draws: how many there are.
    """

    layers: tuple[int, ...]
    x: Float[np.ndarray, " n"]
    shares: Float[np.ndarray, " n"]
    width: float
    draws: int

    @classmethod
    def of(cls, layer_set: LayerSet | None, depth: int) -> Strip | None:
        """The strip of a layer set; None where its stability is not known.

        Args:
            layer_set: the choice.
            depth: what a layer is divided by to be a place on the x axis.
        """
        if layer_set is None or layer_set.stability is None:
            return None
        taken = layer_set.stability.taken
        return cls(
            layers=tuple(taken),
            x=np.array([*taken]) / depth,
            shares=np.array([*taken.values()]),
            width=1 / depth,
            draws=layer_set.stability.draws,
        )

    @property
    def label(self) -> str:
        """What the legend says."""
        return f"strip: share of {self.draws} draws"


def sink_place(profile: IDProfile, depth: int) -> float | None:
    """Where b* lies on the x axis; None where there is none, or it is not known."""
    if profile.sink is None or profile.sink.block is None:
        return None
    return profile.sink.block / depth


def draw_sink(ax: Axes, x: float) -> Artist:
    """A thin dotted line over the whole height; returns it."""
    return ax.axvline(x, color=SINK, lw=1.0, ls=(0, (1, 1.5)), zorder=1)


def draw_strip(ax: Axes, strip: Strip) -> Artist:
    """Bars between the axis and the numbers of its ticks; returns what stands for them."""
    from matplotlib.patches import Patch
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    figure: Any = ax.figure
    axes: Any = ax.transAxes
    inches_below = figure.dpi_scale_trans + ScaledTranslation(0, 0, axes)
    place = blended_transform_factory(axes, inches_below)
    bottom = -(STRIP_TOP + STRIP_HEIGHT) / 72
    below = ax.inset_axes((0, bottom, 1, STRIP_HEIGHT / 72), transform=place)
    below.set_facecolor(STRIPE)
    below.spines[:].set_visible(False)
    below.set_xticks([])
    below.set_yticks([])
    below.set_xlim(ax.get_xlim())
    below.set_ylim(0, 1)
    below.bar(strip.x, strip.shares, width=0.8 * strip.width, color=TAKEN)
    ax.tick_params(axis="x", pad=TICK_PAD)
    return Patch(color=TAKEN, lw=0)
