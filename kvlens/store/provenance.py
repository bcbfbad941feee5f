"""Provenance: with what a result was made."""

from __future__ import annotations

import importlib.metadata
import platform


def versions() -> dict[str, str]:
    """The versions that a result depends on, for its provenance."""
    from kvlens import __version__

    names = (
        "torch",
        "transformers",
        "transformer-lens",
        "scikit-dimension",
        "scikit-learn",
        "numpy",
    )
    found = {name: importlib.metadata.version(name) for name in names}
    return {"kvlens": __version__, "python": platform.python_version(), **found}
