"""Links of a page in the repository, as links of the site.

The site has the repository's tree, with docs/ at its root. A link that leaves docs/ brings its
target along: a picture as it is, a Markdown file as a page, a source file as a page that shows it,
a folder as a list, a notebook as its cells with what they show.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

LINK = re.compile(r"(?P<open>\]\()(?P<target>[^)\s]+)(?P<close>\))")
FENCE = re.compile(r"^ *(```|~~~)")
ELSEWHERE = ("http://", "https://", "mailto:", "data:", "#")
AS_IT_IS = {".md", ".png", ".svg"}


def site_path(path: str) -> str:
    """Where a file of the repository lies in the site.

    Args:
        path: from the repository's root, with forward slashes.

    Returns:
        The path from the site's root.
    """
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        path = path.removeprefix("docs/")
    if Path(path).suffix in AS_IT_IS:
        return path
    return f"{path}.md"


def relinked(text: str, page: str, wanted: Callable[[str], None]) -> str:
    """A page with the site's links in place of the repository's.

    Args:
        text: Markdown; a target that begins with / is meant from the repository's root.
        page: the file it comes from, from the repository's root.
        wanted: is told each file of the repository that the page leads to.

    Returns:
        The Markdown; what stands in code blocks is left alone.
    """
    here = posixpath.dirname(page)
    there = posixpath.dirname(site_path(page))

    def moved(match: re.Match[str]) -> str:
        if match["target"].startswith(ELSEWHERE):
            return match[0]
        place, hash_sign, anchor = match["target"].partition("#")
        target = posixpath.normpath(posixpath.join("/", here, place)).lstrip("/")
        wanted(target)
        new = posixpath.relpath(site_path(target), there or ".")
        return f"{match['open']}{new}{hash_sign}{anchor}{match['close']}"

    lines = []
    in_code = False
    for line in text.splitlines(keepends=True):
        if FENCE.match(line):
            in_code = not in_code
        lines.append(line if in_code else LINK.sub(moved, line))
    return "".join(lines)
