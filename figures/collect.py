"""Takes what the figures need from a model's run folder, and makes it small.

``python figures/collect.py RUN DATA``; ``figures/data.sh`` makes the runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from told import placeless

from kvlens.reporting.figures import collecting


def collect(run: str | Path, data: str | Path) -> list[Path]:
    """As `collecting.collect`; commands lose where they wrote.

    Args:
        run: a model's run folder.
        data: the folder of saved results.
    """
    return collecting.collect(run, data, told=placeless)


if __name__ == "__main__":
    collect(*sys.argv[1:])
