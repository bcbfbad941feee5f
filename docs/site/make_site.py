"""Build the documentation's site: ``python docs/site/make_site.py [FOLDER]``, strictly.

Pages of docs/ are copied with links that hold in the site, the generated ones are written beside
them, and Zensical makes HTML of both; a broken link or an unknown name fails.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from page_facts import without_marks, wrong_facts
from page_inserts import with_inserts
from page_links import relinked, site_path
from reference_python import python_pages
from reference_terminal import terminal_page
from source_pages import source_page

ROOT = Path(__file__).parents[2]
HERE = "docs/site"
PICTURES = {".png", ".svg"}


def make(folder: Path) -> int:
    """Write the sources of the site, then the site.

    Args:
        folder: holds both afterwards, in ``pages`` and ``html``; made anew.

    Returns:
        0, or 1 where a number differs from its result, else Zensical's exit code.
    """
    if folder.exists():
        shutil.rmtree(folder)
    pages = folder / "pages"
    problems = [f"{page}: {problem}" for page in checked() for problem in _wrong(page)]
    if problems:
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    made = generated()
    for name, text in made.items():
        _write(pages / name, text)
    _copy_pages(pages, made)
    shutil.copy(ROOT / HERE / "site.css", pages / "site.css")
    _write(folder / "mkdocs.yml", yaml.safe_dump(_settings(), sort_keys=False))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, check=False).returncode


def generated() -> dict[str, str]:
    """The pages that nobody writes, by their file in the site."""
    return {"terminal.md": terminal_page(), **python_pages()}


def written_pages() -> list[str]:
    """The pages that somebody wrote, from the repository's root."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    return [path.relative_to(ROOT).as_posix() for path in found]


def checked() -> list[str]:
    """The pages whose numbers are held against the saved results."""
    return ["README.md", *written_pages()]


def _wrong(page: str) -> list[str]:
    return wrong_facts((ROOT / page).read_text(encoding="utf-8"))


def _copy_pages(pages: Path, there: Iterable[str]) -> None:
    """Every written page, what these lead to, and what that leads to, but for what is there."""
    waiting = written_pages()
    done = {"README.md"}  # docs/index.md stands in its place
    while waiting:
        path = waiting.pop()
        if path not in done and site_path(path) not in there:
            done.add(path)
            _copy(path, pages, waiting)


def _copy(path: str, pages: Path, waiting: list[str]) -> None:
    place = pages / site_path(path)
    if Path(path).suffix in PICTURES:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, place)
    elif Path(path).suffix == ".md":
        text = without_marks(with_inserts((ROOT / path).read_text(encoding="utf-8")))
        _write(place, relinked(text, path, waiting.append))
    else:
        text = source_page(ROOT, path)
        _write(place, relinked(text, path, waiting.append))


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")


def _settings() -> dict[str, Any]:
    settings = yaml.safe_load((ROOT / HERE / "mkdocs.yml").read_text(encoding="utf-8"))
    python: dict[str, Any] = settings["plugins"][1]["mkdocstrings"]["handlers"]["python"]
    python["paths"] = [str(ROOT)]
    return settings


if __name__ == "__main__":
    sys.exit(make(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".site").resolve()))
