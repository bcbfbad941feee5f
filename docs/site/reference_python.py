"""The reference of Python: the public names, by room, from their docstrings.

mkdocstrings reads the sources and imports nothing; here is only which name stands on which page.
"""

from __future__ import annotations

import kvlens

# Room -> title of its page, from what is loaded first to what is drawn last.
ROOMS = {
    "texts": "Texts and prompts",
    "models": "Models",
    "tracing": "Recording",
    "dimension": "Intrinsic dimension",
    "layers": "Layers",
    "rerouting": "Re-routing",
    "methods": "Methods",
    "embedding": "Embedding",
    "evaluation": "Evaluation",
    "analysis": "Analysis",
    "checks": "Checks",
    "studies": "Studies",
    "plots": "Plots",
    "reporting": "Reports",
}
ALSO = {"texts": ["texts.pairs.read_pairs"]}  # no public name, but the documentation uses it
ERRORS = "store.errors.InputError"


def python_pages() -> dict[str, str]:
    """The pages by their file in the site, an index among them."""
    pages = {f"python/{room}.md": _page(room, title) for room, title in ROOMS.items()}
    pages["python/index.md"] = _index()
    return pages


def _names(room: str) -> list[str]:
    homes = kvlens._HOME.items()
    return [name for name, home in homes if home.partition(".")[0] == room]


def _page(room: str, title: str) -> str:
    entries = [_entry(f"kvlens.{kvlens._HOME[name]}.{name}", name) for name in _names(room)]
    others = [_entry(f"kvlens.{path}", path) for path in ALSO.get(room, [])]
    return "\n\n".join([f"# {title}", *entries, *others]) + "\n"


def _entry(path: str, name: str) -> str:
    options = f'    options:\n      heading: "kvlens.{name}"\n      toc_label: "{name}"'
    return f"::: {path}\n{options}"


def _index() -> str:
    rows = [
        f"| [{title}]({room}.md) | {', '.join(f'`{name}`' for name in _names(room))} |"
        for room, title in ROOMS.items()
    ]
    head = "# Python reference\n\nEvery public name of `kvlens`, by the room that it lives in.\n"
    table = "\n".join([head, "| page | names |", "| --- | --- |", *rows])
    everywhere = [_entry("kvlens.open", "open"), _entry(f"kvlens.{ERRORS}", "InputError")]
    return "\n\n".join([table, *everywhere]) + "\n"
