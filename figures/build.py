"""The paper's figures, rebuilt from saved results without any model.

``python figures/build.py [DATA [FOLDER]]``

The recipes are those of `kvlens figures`. ``collect.py`` takes the saved results from run folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from told import attention_command

from kvlens.reporting.figures.drawing import draw_figures, figures_of

FIGURES = {figure.name: figure for figure in figures_of(["smollm2-135m"], attention_command)}


def build(data: str | Path = "figures/data", folder: str | Path = "figures") -> list[Path]:
    """Draw every figure whose data is there; the same data gives the same bytes.

    Args:
        data: the folder of saved results.
        folder: where the figures go.

    Returns:
        What was written. What lacks its data is left out with a message.
    """
    written, left_out = draw_figures(FIGURES.values(), Path(data), Path(folder))
    for name, error in left_out.items():
        print(f"{name}: left out, {error}")
    return written


if __name__ == "__main__":
    print(f"{len(build(*sys.argv[1:]))} files written")
