"""`kvlens models`: the models that are known by name."""

from __future__ import annotations

from kvlens.cli.answers import Answer


def models() -> Answer:
    """The named small models, and which are already here."""
    from kvlens.models.catalog import NAMED, is_cached

    rows = []
    lines = []
    for name, model in NAMED.items():
        here = is_cached(name)
        rows.append(
            {
                "name": name,
                "here": here,
                "megabytes": model.megabytes,
                "licence": model.licence,
                "note": model.note,
            }
        )
        where = "here" if here else f"fetched at first use ({model.megabytes} MB)"
        lines.append(f"{name:14} {where:32} {model.licence:20} {model.note}")
    lines.append("Besides these: a hub id (org/name), a model directory, or a .gguf file.")
    return Answer(rows, "\n".join(lines))
