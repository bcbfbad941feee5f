"""The paper's figures, rebuilt from saved results without any model.

``python figures/build.py [DATA [FOLDER]]``

A figure is a function in a ``recipes_*.py``: it takes the folder of saved results, and its
docstring is the caption. `build` adds numbers and sources, and writes NAME.png, NAME.pdf and the
caption NAME.md. ``collect.py`` takes the saved results from run folders.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes_attention import before_after, beta_by_layer
from recipes_choice import choice
from recipes_controls import controls
from recipes_dimension import layer_id, layer_id_smollm
from recipes_effects import effects
from recipes_layers import depth, readout, regret
from recipes_quality import lengths, methods
from recipes_states import geometry, kv_ranks, kv_similarity, similarity
from saved import Drawn

from kvlens.plots.style import save_figures, styled
from kvlens.store.errors import InputError
from kvlens.store.files import write_text

Recipe = Callable[[Path], Drawn]

FIGURES: dict[str, Recipe] = {
    "layer_id": layer_id,
    "layer_id_smollm2-135m": layer_id_smollm,
    "beta_by_layer": beta_by_layer,
    "before_after": before_after,
    "similarity": similarity,
    "geometry": geometry,
    "kv_ranks": kv_ranks,
    "kv_similarity": kv_similarity,
    "methods": methods,
    "lengths": lengths,
    "depth": depth,
    "regret": regret,
    "readout": readout,
    "effects": effects,
    "choice": choice,
    "controls": controls,
}
CAPTION_LETTERS = 118


def build(data: str | Path = "figures/data", folder: str | Path = "figures") -> list[Path]:
    """Draw every figure whose data is there; the same data gives the same bytes.

    Args:
        data: the folder of saved results.
        folder: where the figures go.

    Returns:
        What was written. What lacks its data is left out with a message.
    """
    written = []
    for name, recipe in FIGURES.items():
        try:
            drawn = styled(recipe)(Path(data))
        except InputError as error:
            print(f"{name}: left out, {error}")
            continue
        written += save_figures({name: drawn.figure}, folder)
        path = Path(folder) / f"{name}.md"
        write_text(path, _caption(name, recipe, drawn))
        written.append(path)
    return written


def _caption(name: str, recipe: Recipe, drawn: Drawn) -> str:
    """What is seen, and behind it the data with the commands that made them."""
    words = f"{inspect.getdoc(recipe)} {drawn.numbers}".split()
    options: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
    text = textwrap.fill(" ".join(words), CAPTION_LETTERS, **options)
    parts = [f"# {name}", text, "Data, with the commands:", *drawn.sources]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(f"{len(build(*sys.argv[1:]))} files written")
