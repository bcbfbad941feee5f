"""Markdown: text of users and models inside it, shown as it is and never read as markup."""

from __future__ import annotations

import re
from html import escape

from kvlens.store.errors import printable

# What begins code, emphasis or a link, or ends a cell of a table; an underscore inside a word and
# brackets of their own are none of these.
MARKS = re.compile(r"([\\`|*]|(?<![^\W_])_|_(?![^\W_])|!(?=\[)|\](?=[(\[:]))")


def markdown_text(text: str) -> str:
    """`text` as Markdown that shows it: one line, without HTML, links, code or a table's bar."""
    return MARKS.sub(r"\\\1", escape(printable(text), quote=False))


def markdown_code(text: str) -> str:
    """`text` as code in one line; backquotes inside are fenced by more of them."""
    line = printable(text)
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"
