"""`kvlens figures`: the paper's figures of one's own runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.folders import output_folder, run_folder
from kvlens.cli.swap import recover
from kvlens.cli.values import Names
from kvlens.store.arguments import choice_argument

WRITES = ("data", "*.png", "*.pdf", "*.svg", "*.md")


def figures(
    runs: Annotated[list[Path], Parameter(name="RUN", consume_multiple=True)],
    /,
    *,
    width: Literal["single", "double"] = "double",
    format: Names = ("png", "pdf"),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
) -> Answer:
    """The paper's figures of your own runs, each with its caption, and their data beside.

    Args:
        runs: run folders of different models
        width: single or double: one column of a paper (3.4 in) or two (6.9 in)
        format: png, pdf, svg
        output: folder to write [default: runs/RUN-figures]
        overwrite: replace existing figures
    """
    from kvlens.plots.style import FORMATS
    from kvlens.reporting.figures.layout import LAYOUTS
    from kvlens.reporting.figures.own_runs import draw_runs

    formats = tuple(choice_argument("format", each, FORMATS) for each in format)
    folder = output or run_folder(*(run.resolve().name for run in runs), suffix="-figures")
    for run in runs:
        recover(run)
    with output_folder(folder, overwrite, WRITES) as scratch:
        drawn = draw_runs(runs, scratch, LAYOUTS[width], formats)
    lines = [f"{name}: left out, {lacks}" for name, lacks in drawn.left_out.items()]
    lines.append(f"written: {', '.join(drawn.figures)} in {folder}")
    names = list(drawn.figures)
    data = {"output": str(folder), "figures": names, "left_out": drawn.left_out}
    return Answer(data, "\n".join(lines))
