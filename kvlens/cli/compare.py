"""`kvlens compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.folders import output_folder, run_folder
from kvlens.cli.swap import recover

if TYPE_CHECKING:
    from kvlens.reporting.comparing.comparison import Comparison, Row

WRITES = ("comparison.*", "profiles.*", "numbers.*")


def compare(
    runs: Annotated[list[Path], Parameter(name="RUN", consume_multiple=True)],
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
) -> Answer:
    """Runs side by side: base and instruct, checkpoints, quantized and full; table, picture, page.

    Args:
        runs: two run folders or more, as `kvlens profile` writes them
        output: folder to write [default: runs/RUN+RUN-comparison]
        overwrite: replace an existing comparison
    """
    from kvlens.reporting.comparing.comparison import Comparison
    from kvlens.reporting.comparing.page import STEM, write_comparison

    folder = output or run_folder(*(run.resolve().name for run in runs), suffix="-comparison")
    for run in runs:
        recover(run)
    comparison = Comparison.of(runs)
    with output_folder(folder, overwrite, WRITES) as scratch:
        write_comparison(comparison, scratch)
    page = folder / f"{STEM}.html"
    rows = [
        {"part": part.name, "what": row.what, "runs": _words(comparison, row)}
        for part in comparison.parts
        for row in part.rows
    ]
    text = (
        f"{comparison.markdown()}\nwritten: {page} (opens offline); tables and pictures beside it"
    )
    return Answer({"output": str(folder), "page": str(page), "rows": rows}, text)


def _words(comparison: Comparison, row: Row) -> dict[str, str | None]:
    cells = zip(comparison.names, row.cells, strict=True)
    return {name: cell.words if cell else None for name, cell in cells}
