"""What many passages cost, worked out of the measured speed of one core; see docs/scale.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from saved_results import DATA
from score_tables import table

PASSAGES = (10**6, 10**8, 10**9)
TOKENS = 128  # of a passage, prompt included
BYTES = 4  # of a vector's number
WINDOW = 50_000  # rows of a part
HEAD = ("size", "passages", "tokens/s of a core", "core hours", "vectors", "requests")


@dataclass(frozen=True)
class Size:
    """A model by its size.

    Attributes:
        name: such as 4B; in brackets where its speed is worked out.
        width: of its vectors.
        speed: tokens a second of a core.
    """

    name: str
    width: int
    speed: float


def costs() -> str:
    """A row a size and number of passages."""
    measured = json.loads((DATA / "throughput.json").read_text(encoding="utf-8"))["rows"]
    return table(list(HEAD), [_row(size, n) for size in _sizes(measured) for n in PASSAGES])


def _sizes(rows: dict[str, dict[str, Any]]) -> Iterator[Size]:
    """The sizes by number of parameters; the speed of what is not measured from the one before."""
    shapes = {name: row for name, row in rows.items() if name.endswith("B")}
    products = 0.0  # parameters that a second passes through
    for name in sorted(shapes, key=lambda name: shapes[name]["parameters_in_blocks"]):
        row = shapes[name]
        speed = row["tokens_a_second"]
        if speed:
            products = speed * row["parameters_in_blocks"]
            yield Size(name, row["width"], speed)
        else:
            yield Size(f"({name})", row["width"], products / row["parameters_in_blocks"])


def _row(size: Size, n: int) -> list[str]:
    hours = n * TOKENS / size.speed / 3600
    return [
        size.name,
        f"10^{len(str(n)) - 1}",
        f"{size.speed:,.0f}",
        f"{hours:,.0f}",
        f"{n * size.width * BYTES / 1e9:,.0f} GB",
        f"{-(-2 * n // WINDOW):,}",
    ]
