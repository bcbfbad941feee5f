"""Drawing: every figure whose data is there, with its caption.

A figure is a recipe: a function that takes the folder of saved results, and whose docstring is the
caption. Numbers and sources are added to it. The same data gives the same bytes.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvlens.plots.style import PAPER_FORMATS, save_figures, styled
from kvlens.reporting.figures.layout import DOUBLE, Layout
from kvlens.reporting.figures.recipes_attention import before_after, beta_by_layer
from kvlens.reporting.figures.recipes_choice import choice
from kvlens.reporting.figures.recipes_controls import controls
from kvlens.reporting.figures.recipes_dimension import layer_id, layer_id_of_one
from kvlens.reporting.figures.recipes_effects import effects
from kvlens.reporting.figures.recipes_layers import depth, readout, regret
from kvlens.reporting.figures.recipes_quality import lengths, methods
from kvlens.reporting.figures.recipes_states import geometry, kv_ranks, kv_similarity, similarity
from kvlens.reporting.figures.saved import Drawn, Told, not_recorded
from kvlens.store.errors import InputError
from kvlens.store.files import write_text

CAPTION_LETTERS = 118


@dataclass(frozen=True)
class Figure:
    """A figure of results.

    Attributes:
        name: of its files.
        recipe: draws it.
        options: of the recipe: the one model that it is of, what tells commands.
    """

    name: str
    recipe: Callable[..., Drawn]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, data: Path, layout: Layout = DOUBLE) -> Drawn:
        """Draw it; raises InputError where its data is missing."""
        drawn = styled(self.recipe)(Path(data), layout, **self.options)
        layout.finish(drawn.figure)
        return drawn


def figures_of(models: Sequence[str], told: Told = not_recorded) -> tuple[Figure, ...]:
    """Every figure there is, those of one model once for each of these.

    Args:
        models: as the files of saved results name them.
        told: tells the commands of attention results.
    """
    return (
        Figure("layer_id", layer_id),
        *(Figure(f"layer_id_{model}", layer_id_of_one, {"model": model}) for model in models),
        Figure("beta_by_layer", beta_by_layer, {"told": told}),
        *(
            Figure(
                f"before_after_{model}" if len(models) > 1 else "before_after",
                before_after,
                {"told": told, "model": model},
            )
            for model in models
        ),
        Figure("similarity", similarity),
        Figure("geometry", geometry),
        Figure("kv_ranks", kv_ranks),
        Figure("kv_similarity", kv_similarity),
        Figure("methods", methods),
        Figure("lengths", lengths),
        Figure("depth", depth),
        Figure("regret", regret),
        Figure("readout", readout),
        Figure("effects", effects),
        Figure("choice", choice),
        Figure("controls", controls),
    )


def draw_figures(
    figures: Iterable[Figure],
    data: Path,
    folder: Path,
    layout: Layout = DOUBLE,
    formats: Sequence[str] = PAPER_FORMATS,
) -> tuple[list[Path], dict[str, InputError]]:
    """Draw every figure whose data is there.

    Args:
        figures: see `figures_of`.
        data: the folder of saved results.
        folder: where the figures go; made when missing.
        layout: one of `LAYOUTS`.
        formats: of the pictures, see `save_figures`.

    Returns:
        What was written, the caption of each figure behind its pictures; and of what was left out,
        by name, the reason.

    Raises:
        InputError: a file cannot be written.
    """
    written: list[Path] = []
    left_out: dict[str, InputError] = {}
    for figure in figures:
        try:
            drawn = figure(data, layout)
        except InputError as error:
            left_out[figure.name] = error
            continue
        written += save_figures({figure.name: drawn.figure}, folder, formats)
        path = folder / f"{figure.name}.md"
        write_text(path, caption(figure, drawn))
        written.append(path)
    return written, left_out


def caption(figure: Figure, drawn: Drawn) -> str:
    """What is seen, and behind it the data with the commands that made them."""
    words = f"{inspect.getdoc(figure.recipe)} {drawn.numbers}".split()
    options: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
    text = textwrap.fill(" ".join(words), CAPTION_LETTERS, **options)
    parts = [f"# {figure.name}", text, "Data, with the commands:", *drawn.sources]
    return "\n\n".join(parts) + "\n"
