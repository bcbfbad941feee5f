"""Pictures of results: pure functions, a result becomes matplotlib Axes or a plotly Figure."""

import importlib
from typing import Any

# Public name -> its file. Resolved on first use: not every picture needs every library.
_HOME = {
    "BAND": "style",
    "COLOURS": "style",
    "DASHES": "style",
    "MARKERS": "style",
    "SHADE": "style",
    "STYLE": "style",
    "WORDS": "words",
    "new_axes": "style",
    "picture_html": "style",
    "plot_profile": "profile",
    "profile_html": "profile_page",
    "save_figures": "style",
    "save_profile_plots": "saving",
    "styled": "style",
}


def __getattr__(name: str) -> Any:
    """The public name, out of its file."""
    if name not in _HOME:
        raise AttributeError(f"module 'kvlens.plots' has no attribute {name!r}")
    module = importlib.import_module(f"kvlens.plots.{_HOME[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(_HOME)
