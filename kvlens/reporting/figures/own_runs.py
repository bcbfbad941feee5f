"""Own runs: the paper's figures of a user's run folders, and the data that they were drawn from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvlens.plots.style import PAPER_FORMATS
from kvlens.reporting.figures.collecting import collect, place_in
from kvlens.reporting.figures.drawing import draw_figures, figures_of
from kvlens.reporting.figures.layout import DOUBLE, Layout
from kvlens.reporting.figures.saved import KINDS, NoResults
from kvlens.store.errors import InputError

DATA = "data"  # the folder inside that of the figures


@dataclass(frozen=True)
class DrawnRuns:
    """What was drawn of runs.

    Attributes:
        figures: names of the figures, in order.
        left_out: name -> what it lacks, in words.
        files: that were written, data first.
    """

    figures: tuple[str, ...]
    left_out: dict[str, str]
    files: tuple[Path, ...]


def draw_runs(
    runs: Sequence[Path],
    folder: Path,
    layout: Layout = DOUBLE,
    formats: Sequence[str] = PAPER_FORMATS,
) -> DrawnRuns:
    """Draw every figure of the paper that run folders have the data for.

    Args:
        runs: run folders of different models.
        folder: gets the pictures with their captions, and in ``data`` what they were drawn from.
        layout: one of `LAYOUTS`.
        formats: of the pictures, see `save_figures`.

    Returns:
        What was drawn.

    Raises:
        InputError: for a folder without results, two runs of one model, damaged results, a place
            that cannot be written, and where nothing can be drawn.
    """
    names = _names(runs)
    data = [path for run, name in names.items() for path in collect(run, folder / DATA, name)]
    figures = figures_of(list(names.values()))
    written, refused = draw_figures(figures, folder / DATA, folder, layout, formats)
    left_out = {name: _lacks(error) for name, error in refused.items()}
    drawn = tuple(figure.name for figure in figures if figure.name not in left_out)
    if not drawn:
        reasons = "; ".join(f"{name} {lacks}" for name, lacks in left_out.items())
        raise InputError(f"no figure can be drawn: {reasons}")
    return DrawnRuns(drawn, left_out, (*data, *written))


def _names(runs: Sequence[Path]) -> dict[Path, str]:
    """What stands for each run's model in names of files; raises InputError for none and two."""
    names: dict[Path, str] = {}
    for run in runs:
        name = _plain(_model_of(run))
        if name in names.values():
            raise InputError(f"two runs are of {name}: `kvlens compare` sets them side by side")
        names[run] = name
    return names


def _model_of(run: Path) -> str:
    """The name of the model that the first result of a run is of."""
    for kind in KINDS.values():
        place = place_in(run, kind)
        if place is not None:
            return kind.result.load(place).model.name
    raise InputError(f"{run} has no results to draw: make them with `kvlens profile MODEL`")


def _plain(name: str) -> str:
    """The last part of a model's id or path, of letters that any file may have."""
    return re.sub(r"[^\w.+@-]+", "-", Path(name).name) or "model"


def _lacks(error: InputError) -> str:
    """What a figure lacks, as the files of a run folder."""
    if not isinstance(error, NoResults):
        return str(error)
    return f"lacks {' and '.join(KINDS[kind].file for kind in error.kinds)}"
