"""How figures of several models are laid out: a row of axes each, under the model's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvlens.plots.style import new_axes

WIDE = 6.9  # inches: two columns


def model_rows(
    results: Sequence[Any], columns: int, height: float, rows: int = 1, **options: Any
) -> list[list[Any]]:
    """A new figure, two columns of a paper wide.

    Args:
        results: one a part of the figure, whose model is named above it.
        columns: axes in a row.
        height: of a part, in inches.
        rows: of axes in a part.
        options: further keywords of ``Figure.subplots``.

    Returns:
        The axes, part by part.
    """
    figure = root_figure(new_axes(WIDE, height * len(results)))
    figure.clear()
    parts = []
    for result, part in zip(results, _parts(figure, len(results)), strict=True):
        title = f"{result.model.name} ({result.model.n_layers} layers)"
        part.suptitle(title, fontsize=9, weight="bold")
        axes = part.subplots(rows, columns, squeeze=False, **options)
        parts.append(list(axes.flat))
    return parts


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
