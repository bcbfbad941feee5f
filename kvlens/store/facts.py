"""Facts: how a result shows itself, on a terminal and in a notebook."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kvlens.store.errors import printable

# Class of a result -> "module:function" that draws it. The facade fills this, so that results
# know no pictures.
PICTURES: dict[str, str] = {}

# The same of what writes a result's picture into a file.
PICTURE_FILES: dict[str, str] = {}

CELL = "text-align: left; vertical-align: top"
SCROLLED = "max-height: 24em; overflow: auto"


def facts_text(title: str, facts: Mapping[str, Any], warnings: Sequence[str] = ()) -> str:
    """A result as plain text.

    Args:
        title: the first line.
        facts: name and value of each further line.
        warnings: what to beware of, a line each.

    Returns:
        The lines, without a final line end.
    """
    lines = [f"  {name:8} {value}" for name, value in facts.items()]
    doubts = [f"  {'warning':8} {text}" for text in warnings]
    return text_of_lines([title, *lines, *doubts])


def text_of_lines(lines: Iterable[str]) -> str:
    """Lines for a terminal, which names out of a file can neither break nor command."""
    return "\n".join(map(printable, lines))


def facts_html(
    title: str, facts: Mapping[str, Any], warnings: Sequence[str] = (), picture: str = ""
) -> str:
    """A result as HTML: title, table and picture.

    Args:
        title: plain text, escaped here.
        facts: name and value of each row, escaped here.
        warnings: what to beware of, a row each, escaped here.
        picture: HTML, taken as it is.

    Returns:
        One ``<div>``.
    """
    rows = [_row(name, value) for name, value in facts.items()]
    rows += [_row("⚠", text) for text in warnings]
    return f"<div><b>{escape(title)}</b><table>{''.join(rows)}</table>{picture}</div>"


def printed_html(result: Any, alt: str) -> str:
    """A result as HTML: the lines that it prints, the first as their title, and its picture.

    Args:
        result: of several lines, as a string.
        alt: the picture in words, for those who cannot see it.

    Returns:
        One ``<div>``.
    """
    title, _, lines = str(result).partition("\n")
    text = f'<pre style="{SCROLLED}">{escape(lines)}</pre>' if lines else ""
    return f"<div><b>{escape(title)}</b>{text}{picture_of(result, alt)}</div>"


def _row(name: str, value: Any) -> str:
    head = f'<th style="{CELL}; white-space: nowrap">{escape(name)}</th>'
    cell = f'<td style="{CELL}">{escape(str(value))}</td>'
    return f"<tr>{head}{cell}</tr>"


def picture_of(result: Any, alt: str) -> str:
    """The picture of a result as HTML, drawn by what `PICTURES` names for its class.

    Args:
        result: what is shown.
        alt: the picture in words, for those who cannot see it.

    Returns:
        HTML; empty where no picture is known.
    """
    place = PICTURES.get(type(result).__name__)
    return _named(place)(result, alt) if place else ""


def save_picture_of(result: Any, path: Path) -> Path:
    """Write the picture of a result, as `PICTURE_FILES` names for its class.

    Args:
        result: what is drawn.
        path: a PNG to write.

    Returns:
        `path`.

    Raises:
        InputError: when it cannot be written.
    """
    _named(PICTURE_FILES[type(result).__name__])(result, path)
    return path


def _named(place: str) -> Callable[..., Any]:
    """The function of ``module:function``."""
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)
