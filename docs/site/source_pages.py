"""Pages of what the documentation leads to outside docs/: sources and folders."""

from __future__ import annotations

from pathlib import Path

from notebook_pages import notebook_page

LANGUAGES = {
    ".py": "python",
    ".json": "json",
    ".js": "js",
    ".html": "html",
    ".sh": "bash",
    ".toml": "toml",
    ".cff": "yaml",
}


def source_page(root: Path, path: str) -> str:
    """A page that shows one file, folder or notebook.

    Args:
        root: the repository.
        path: of the file, from there.

    Returns:
        Markdown.
    """
    place = root / path
    if place.is_dir():
        return _folder(place, path)
    if place.suffix == ".ipynb":
        return notebook_page(place)
    language = LANGUAGES.get(place.suffix, "text")
    text = place.read_text(encoding="utf-8").rstrip()
    return f"# {path}\n\n````{language}\n{text}\n````\n"


def _folder(place: Path, path: str) -> str:
    names = sorted(child.name for child in place.iterdir() if not child.name.startswith(("_", ".")))
    return f"# {path}/\n\n" + "\n".join(f"* `{name}`" for name in names) + "\n"
