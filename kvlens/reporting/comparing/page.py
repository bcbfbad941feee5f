"""Page: runs side by side as one offline page, and the pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.reporting.comparing.comparison import Comparison, Part
from kvlens.reporting.run_folder import Run
from kvlens.reporting.templates import page_template
from kvlens.store.files import write_text
from kvlens.store.provenance import current_command, versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEM = "comparison"
WIDTH = 6.9  # inches


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write tables, pictures and the page.

    Args:
        comparison: of runs.
        folder: where they go; made when missing.

    Returns:
        What was written, the page last.

    Raises:
        InputError: a file cannot be written.
    """
    from kvlens.plots.style import save_figures

    pictures = draw(comparison)
    figures = {name: ax.get_figure(root=True) for name, ax in pictures.items()}
    written = save_figures(figures, folder)
    texts = {
        "csv": comparison.csv(),
        "md": comparison.markdown(),
        "html": render(comparison, pictures),
    }
    for ending, text in texts.items():
        write_text(folder / f"{STEM}.{ending}", text)
        written.append(folder / f"{STEM}.{ending}")
    return written


def draw(comparison: Comparison) -> dict[str, Axes]:
    """The pictures: ``profiles``, and ``numbers`` where two runs have the same with intervals."""
    from kvlens.plots.profile import plot_profile
    from kvlens.plots.side_by_side import plot_side_by_side

    named = [_named(run, name) for run, name in zip(comparison.runs, comparison.names, strict=True)]
    profiles = [profile for profile, _ in named]
    pictures = {"profiles": plot_profile(profiles, [chosen for _, chosen in named], width=WIDTH)}
    panels = {part.name: _intervals(part) for part in comparison.parts if part.drawn}
    if panels:
        pictures["numbers"] = plot_side_by_side(panels, comparison.names, WIDTH)[0]
    return pictures


def _named(run: Run, name: str) -> tuple[IDProfile, LayerSet]:
    """The profile and the layer set under the name of the run: two may be of one model."""
    model = {"model": run.layers.model.model_copy(update={"name": name})}
    profile = run.profile.model_copy(update=model)
    return profile, run.layers.model_copy(update={**model, "profile": profile})


def _intervals(part: Part) -> dict[str, Any]:
    """Of each row that is drawn an interval a run; a number without one is left out."""
    return {
        row.what: [cell if cell and cell.low is not None else None for cell in row.cells]
        for row in part.drawn
    }


def render(comparison: Comparison, pictures: Mapping[str, Axes]) -> str:
    """The page, whose words are escaped: names, data and tokens are no markup.

    Args:
        comparison: of runs.
        pictures: see `draw`.
    """
    from kvlens.plots.style import picture_html

    alt = {
        "profiles": "ID by relative depth, a curve a run",
        "numbers": "numbers with 95 % intervals, a colour a run",
    }
    return page_template("comparing/comparison.html").render(
        comparison=comparison,
        pictures={name: picture_html(ax, alt[name]) for name, ax in pictures.items()},
        command=current_command(),
        versions=versions(),
    )
