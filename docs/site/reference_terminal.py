"""The reference of the terminal: what cyclopts knows of kvlens's own commands."""

from __future__ import annotations

import re

from kvlens.cli.app import app

INTRODUCTION = """# Terminal reference

Made from the commands themselves; `kvlens COMMAND --help` says the same.

Exit codes: 0 done, 1 a check failed, 2 bad input (one line that says what to do), 130 Ctrl-C,
143 SIGTERM, 141 a pipe that was closed.
"""
CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\n## )", re.DOTALL)
TITLE = re.compile(r"\A# kvlens\n")


def terminal_page() -> str:
    """All commands with their arguments, options and defaults, as Markdown."""
    text = app.generate_docs(output_format="markdown", recursive=True, heading_level=1)
    groups = CONTENTS.search(text)
    listed = groups[0].partition("**")[1:] if groups else ("", "")
    body = CONTENTS.sub("".join(listed), TITLE.sub("", text))
    return INTRODUCTION + _lines_after_bold(body)


def _lines_after_bold(text: str) -> str:
    """Markdown as Python-Markdown reads it: a list needs an empty line before it."""
    return re.sub(r"(?m)^(\*\*[^\n]+\*\*:)\n(?=\* )", r"\1\n\n", text)
