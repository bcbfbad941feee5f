"""Several runs side by side: the same numbers with their intervals, a colour and mark a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvlens.plots.parts import Interval, figure_legend, grid, horizontal_bars, stripe_rows
from kvlens.plots.style import Look, new_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Mapping[str, Sequence[Interval | None]]
"""Name of a row -> an interval a run, or None."""

LETTERS = 46  # of a row's name on a line
TITLE = 72  # letters of a panel's title on a line
SPREAD = 0.5  # of a row's height, over which its runs are spread


@styled
def plot_side_by_side(
    panels: Mapping[str, Rows], names: Sequence[str], width: float = 6.9
) -> list[Axes]:
    """A panel below another, a row a number, the runs of a row below one another.

    Args:
        panels: title -> rows; one at least.
        names: of the runs, in the order of the rows' intervals.
        width: of the new figure, in inches.

    Returns:
        The axes, one a panel.
    """
    heights = [0.75 + _row_height(len(names)) * len(rows) for rows in panels.values()]
    ratios: dict[str, Any] = {"height_ratios": heights}
    axes = new_axes(width, sum(heights) + 0.3, len(panels), 1, **ratios)
    for ax, (title, rows) in zip(axes, panels.items(), strict=True):
        _draw(ax, rows, names)
        ax.set_title("\n".join(textwrap.wrap(title, TITLE)), fontsize=8, loc="left")
    figure_legend(axes[0], "lower", columns=2)
    return axes


def _row_height(n: int) -> float:
    """Inches of a row with so many runs."""
    return 0.1 + 0.06 * n


def _draw(ax: Axes, rows: Rows, names: Sequence[str]) -> None:
    for run, name in enumerate(names):
        aside = SPREAD * ((run + 0.5) / len(names) - 0.5)
        shown = [(place, each[run]) for place, each in enumerate(rows.values())]
        there = [(place, each) for place, each in shown if each is not None]
        look: dict[str, Any] = {"ms": 4, "lw": 1, "capsize": 1.5, **Look.of(run).mark}
        places = [place + aside for place, _ in there]
        if there:
            horizontal_bars(ax, places, [each for _, each in there], label=name, **look)
        else:
            ax.plot([], [], label=name, **Look.of(run).mark)
    for place in range(0, len(rows), 2):
        stripe_rows(ax, place, place)
    labels = ["\n".join(textwrap.wrap(name, LETTERS)) for name in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=7)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=7)
    grid(ax, "x")
