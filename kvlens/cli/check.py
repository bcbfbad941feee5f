"""`kvlens check`: are recording and re-routing right on a model?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.folders import check_new_file
from kvlens.cli.options import ModelName, ModelOptions


def check(
    name: ModelName,
    /,
    *,
    tolerance: float | None = None,
    output: Annotated[Path, Parameter(alias="-o")] = Path("check.json"),
    overwrite: bool = False,
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """Prove recording and re-routing right on a model, against the model itself.

    Exit code 0: both are right, 1: one is not, or re-routing is refused.

    Args:
        name: named model, hub id, directory or .gguf file
        tolerance: largest relative difference of a recording [default: 2e-4 in float32]
        output: file to write
        overwrite: replace an existing file
        model: how it is loaded
    """
    from kvlens.checks import parity

    check_new_file(output, overwrite)
    result = parity.check(model.load(name, hooked=False), tolerance=tolerance)
    result.save(output)
    data = {"passed": result.passed, **result.model_dump(mode="json")}
    return Answer(data, f"{result}\nwritten to {output}", 0 if result.passed else 1, output)
