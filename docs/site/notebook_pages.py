"""A notebook as a page: its cells, with what they show as it is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

MATH = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.DOTALL)

# Markdown takes a line that begins with <math> for a block.
AT_LINE_START = re.compile(r'(?<=\S)\n *(?=<math [^>]*display="inline")')


def notebook_page(place: Path) -> str:
    """A notebook as Markdown.

    Args:
        place: the file.

    Returns:
        Text, code, pictures as data; formulas as MathML, which browsers show by themselves.
    """
    cells = json.loads(place.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(_cell(cell) for cell in cells) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return AT_LINE_START.sub(" ", MATH.sub(_formula, source))
    return "\n\n".join([f"```python\n{source}\n```", *map(_output, cell["outputs"])])


def _formula(match: re.Match[str]) -> str:
    if match["block"]:
        return convert(match["block"].strip(), display="block")
    return convert(match["inline"])


def _output(output: dict[str, Any]) -> str:
    """A picture where there is one, else a table, else text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        lines = "".join(data["text/html"]).splitlines()
        return "\n".join(["<div>", *(line for line in lines if line.strip()), "</div>"])
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
