"""`kvlens check`: is the recording right on a model?"""

from __future__ import annotations

from kvlens.cli.answers import Answer
from kvlens.cli.options import ModelName, ModelOptions


def check(
    name: ModelName,
    /,
    *,
    tolerance: float | None = None,
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """Prove the recording right on a model, against raw transformers.

    Args:
        name: named model, hub id, directory or .gguf file
        tolerance: largest relative difference [default: 2e-4 in float32]
        model: how it is loaded
    """
    from kvlens.checks import parity

    result = parity.check(model.load(name), tolerance=tolerance)
    lines = [
        f"{kind:7} largest relative difference {value:.1e}"
        for kind, value in result.differences.items()
    ]
    verdict = "passed" if result.passed else "FAILED"
    lines.append(
        f"{verdict}: {result.n_texts} texts, both padding sides, tolerance {result.tolerance:g}"
    )
    data = {"passed": result.passed, "tolerance": result.tolerance, **result.differences}
    return Answer(data, "\n".join(lines), 0 if result.passed else 1)
