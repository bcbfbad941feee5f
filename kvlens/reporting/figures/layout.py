"""How figures are laid out: over two columns of a paper, or within one.

A row of axes for each model, under its name. Within one column what stands side by side over two is
stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvlens.plots.style import new_axes
from kvlens.plots.words import wrapped

LARGEST = 6.5  # points of words within one column
LETTERS = 28  # of a label on a line there
NAME = 32  # of a row's name
GAP = 0.3  # inches that a stacked panel takes more: its own label of the x axis


@dataclass(frozen=True)
class Layout:
    """A width, and how axes are put into it.

    Attributes:
        width: of a figure, in inches.
        stacked: whether axes that stand side by side are stacked.
    """

    width: float
    stacked: bool = False

    @property
    def legend_columns(self) -> int:
        """How many columns a legend of a whole figure has."""
        return 2 if self.stacked else 4

    def axes(
        self,
        height: float,
        rows: int = 1,
        columns: int = 1,
        by_column: bool = False,
        width: float | None = None,
        **options: Any,
    ) -> list[Any]:
        """The axes of a new figure.

        Args:
            height: of the grid, in inches.
            rows: of the grid.
            columns: of the grid.
            by_column: whether columns stay together when they are stacked; else rows do.
            width: of a grid that is not stacked, in inches, where it is another one.
            options: further keywords of ``Figure.subplots``, for the grid.

        Returns:
            ``rows * columns`` axes, row by row of the grid, stacked or not.
        """
        if not self._folds(columns):
            wide = self.width if self.stacked or width is None else width
            return new_axes(wide, height, rows, columns, **options)
        (ax,) = new_axes(self.width, self._height(height, rows, columns))
        figure = root_figure([ax])
        figure.clear()
        return self._grid(figure, rows, columns, by_column, options)

    def model_rows(
        self,
        results: Sequence[Any],
        columns: int,
        height: float,
        rows: int = 1,
        by_column: bool = False,
        narrow: int = 1,
        **options: Any,
    ) -> list[list[Any]]:
        """A new figure with a part for each model.

        Args:
            results: one a part of the figure, whose model is named above it.
            columns: axes in a row.
            height: of a part, in inches.
            rows: of axes in a part.
            by_column: as of `axes`.
            narrow: how many axes of a row still stand side by side when they are stacked.
            options: further keywords of ``Figure.subplots``.

        Returns:
            The axes, part by part.
        """
        folded = -(-columns // narrow)
        part_height = self._height(height, rows, folded)
        figure = root_figure(new_axes(self.width, part_height * len(results)))
        figure.clear()
        parts = []
        for result, part in zip(results, _parts(figure, len(results)), strict=True):
            title = f"{result.model.name} ({result.model.n_layers} layers)"
            part.suptitle(title, fontsize=9, weight="bold")
            if narrow > 1 and self._folds(columns):
                parts.append(_folded(part, folded, narrow, columns))
            else:
                parts.append(self._grid(part, rows, columns, by_column, options))
        return parts

    def finish(self, figure: Any) -> None:
        """Make words fit: within one column they are smaller, and long labels are folded."""
        if not self.stacked:
            return
        from matplotlib.axes import Axes
        from matplotlib.text import Text

        for ax in figure.findobj(Axes):
            for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
                sizes = [label.get_fontsize() for label in axis.get_ticklabels()]
                ax.tick_params(axis=name, labelsize=min([*sizes, LARGEST]))
            ax.set_xlabel(_in_lines(ax.get_xlabel(), LETTERS))
            _fold_names(ax)
        for text in figure.findobj(Text):
            text.set_fontsize(min(text.get_fontsize(), LARGEST))

    def _folds(self, columns: int) -> bool:
        return self.stacked and columns > 1

    def _height(self, height: float, rows: int, columns: int) -> float:
        """Of a grid, which may be stacked."""
        return columns * (height + GAP * rows) if self._folds(columns) else height

    def _grid(
        self, figure: Any, rows: int, columns: int, by_column: bool, options: dict[str, Any]
    ) -> list[Any]:
        if not self._folds(columns):
            return list(figure.subplots(rows, columns, squeeze=False, **options).flat)
        cells = [(row, column) for row in range(rows) for column in range(columns)]
        order = sorted(cells, key=lambda cell: cell[::-1]) if by_column else cells
        ratios = options.get("height_ratios", (1,) * rows)
        heights = [ratios[row] for row, _ in order]
        drawn = figure.subplots(len(cells), 1, squeeze=False, height_ratios=heights).flat
        place = dict(zip(order, drawn, strict=True))
        for row, column in cells:
            _share(place, row, column, options)
        return [place[cell] for cell in cells]


def _in_lines(label: str, letters: int) -> str:
    """A label in lines of so many letters."""
    lines = [part for line in label.split("\n") for part in wrapped(line, letters)]
    return "\n".join(lines)


def _fold_names(ax: Any) -> None:
    """Fold long names of rows: they would leave their axes no room."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    if max(map(len, names), default=0) > NAME:
        ax.set_yticks(ax.get_yticks(), [_in_lines(name, NAME) for name in names])


def _folded(figure: Any, rows: int, columns: int, n: int) -> list[Any]:
    """The first n cells of a grid; the others stay empty."""
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in cells[n:]:
        ax.remove()
    return cells[:n]


def _share(place: dict[Any, Any], row: int, column: int, options: dict[str, Any]) -> None:
    """Share what axes of the grid share; each keeps the words on its own axes."""
    if options.get("sharey") in (True, "row") and column:
        place[row, column].sharey(place[row, 0])
    if options.get("sharex") in (True, "col") and row:
        place[row, column].sharex(place[0, column])


DOUBLE = Layout(6.9)
SINGLE = Layout(3.4, stacked=True)
LAYOUTS = {"single": SINGLE, "double": DOUBLE}


def _parts(figure: Any, n: int) -> np.ndarray:
    """The figure cut into n parts, from top to bottom."""
    return np.atleast_1d(figure.subfigures(n, 1))


def root_figure(axes: Sequence[Any]) -> Any:
    """The whole figure that axes belong to."""
    return axes[0].get_figure(root=True)


def keep_first_legend(rows: Sequence[Sequence[Any]]) -> None:
    """A legend in the first row only: the others' would say the same."""
    for axes in rows[1:]:
        legend = axes[0].get_legend()
        if legend:
            legend.remove()
