"""How a result shows itself: a title, facts and warnings, as text and as HTML."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def facts_text(title: str, facts: Mapping[str, Any], warnings: Sequence[str] = ()) -> str:
    """How a result shows itself on a terminal."""
    rows = [(name, value) for name, value in facts.items()] + [
        ("warning", text) for text in warnings
    ]
    return "\n".join([title, *(f"  {name:8} {value}" for name, value in rows)])


def facts_html(
    title: str, facts: Mapping[str, Any], warnings: Sequence[str] = (), picture: str = ""
) -> str:
    """How a result shows itself in Jupyter: title, table, warnings, all escaped; picture: HTML, taken as it is."""
    rows = [(name, value) for name, value in facts.items()] + [("⚠", text) for text in warnings]
    look = "text-align: left; vertical-align: top"
    cells = "".join(
        f'<tr><th style="{look}; white-space: nowrap">{escape(a)}</th><td style="{look}">{escape(str(b))}</td></tr>'
        for a, b in rows
    )
    return f"<div><b>{escape(title)}</b><table>{cells}</table>{picture}</div>"


# Class of a result -> "module:function" that draws it. The facade fills this: results know no pictures.
PICTURES: dict[str, str] = {}


def picture_of(result: Any, alt: str) -> str:
    """The picture of a result as HTML, by what `PICTURES` names for its class; empty when that is nothing.

    Args:
        result: what is shown.
        alt: the picture in words, for those who cannot see it.
    """
    module, _, function = PICTURES.get(type(result).__name__, "").partition(":")
    return getattr(importlib.import_module(module), function)(result, alt) if module else ""
