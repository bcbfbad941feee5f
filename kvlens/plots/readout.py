"""Quality against the block that is read: a readout sweep, over the ID curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.dimension.profile import IDProfile
from kvlens.plots.parts import band, figure_legend, grid
from kvlens.plots.style import Look, axes_or_new, save_figures, styled
from kvlens.plots.sweeps import draw_dimension
from kvlens.studies.readout_sweep import ReadoutSweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = ((True, "after the final norm"), (False, "before the final norm"))


@styled
def plot_readout(
    sweep: ReadoutSweep,
    profile: IDProfile | None = None,
    axes: Sequence[Axes] | None = None,
    width: float = 3.6,
) -> list[Axes]:
    """Quality after each block, above the ID curve.

    A line for states after the final norm and one for those before it, with bootstrap 95 % bands;
    grey: what the method reads by default, the last block after the norm. Below, where a profile
    is given, the ID with its 95 % band.

    Args:
        sweep: of one method.
        profile: of the same model.
        axes: one, or two that share x; by default a new figure with a legend.
        width: of a new figure, in inches.

    Returns:
        The axes.
    """
    rows = 1 if profile is None else 2
    heights = (1.5, 1)[:rows]
    options: dict[str, Any] = {"rows": rows, "sharex": True, "height_ratios": heights}
    panels = axes_or_new(axes, width, 2.9 if profile is None else 4.5, **options)
    quality = panels[0]
    quality.axhline(sweep.last.spearman, color="0.3", lw=1, ls="--", label="read by default")
    for i, (final_norm, name) in enumerate(CURVES):
        _draw_curve(quality, sweep, final_norm, name, Look.of(i))
    quality.set_ylabel("Spearman × 100")
    quality.set_xlim(-0.7, sweep.model.n_layers - 0.3)
    if profile is not None:
        draw_dimension(panels[1], profile)
    for ax in panels:
        grid(ax)
    panels[-1].locator_params(axis="x", integer=True)
    panels[-1].set_xlabel("block after which is read")
    if axes is None:
        figure_legend(quality, "lower", columns=2)
    return panels


def _draw_curve(ax: Axes, sweep: ReadoutSweep, final_norm: bool, name: str, look: Look) -> None:
    """The blocks with the final norm, or without it."""
    blocks = sweep.curve(final_norm)
    places = [each.block for each in blocks]
    values = [each.spearman for each in blocks]
    marks: dict[str, Any] = {"color": look.colour, "marker": look.marker[0]}
    ax.plot(places, values, ms=3, lw=1.2, ls=look.dash[0], label=name, **marks)
    low = [each.low for each in blocks]
    high = [each.high for each in blocks]
    band(ax, places, low, high, color=look.colour, alpha=0.12)


def save_readout(
    sweep: ReadoutSweep, profile: IDProfile | None, folder: str | Path, stem: str = "readout"
) -> list[Path]:
    """Write `plot_readout` as PNG and PDF, see `save_figures`.

    Args:
        sweep: of one method.
        profile: of the same model, or None.
        folder: where the files go; made when missing.
        stem: of the files' names.

    Returns:
        The paths.

    Raises:
        InputError: the folder cannot be written.
    """
    axes = plot_readout(sweep, profile, width=5.0)
    return save_figures({stem: axes[0].figure}, folder)
