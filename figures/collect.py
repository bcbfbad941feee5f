"""Takes what the figures need from a model's run folder, and makes it small.

``python figures/collect.py RUN DATA [DAY]``; ``figures/data.sh`` makes the runs. With a day, score
tables keep what they lack of those that are in DATA already, marked as measured on that day.
Banking77 may have been run by itself, into ``RUN/banking``: it joins the other tasks.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from told import placeless

from kvlens.evaluation.scores import Scores
from kvlens.reporting.figures import collecting
from kvlens.reporting.figures.saved import KINDS

FURTHER = "banking/scores.json"


def collect(run: str | Path, data: str | Path, day: str | None = None) -> list[Path]:
    """As `collecting.collect`; commands lose where they wrote.

    Args:
        run: a model's run folder.
        data: the folder of saved results.
        day: of the score tables in `data`, such as 2026-11-22, whose other scores are carried over;
            None: they are not.
    """
    earlier = {path: Scores.load(path) for path in _score_tables(Path(data))} if day else {}
    written = collecting.collect(run, data, told=placeless)
    further = Path(run) / FURTHER
    for path in written:
        if path.name.startswith("scores_") and further.is_file():
            _with_further(Scores.load(path), Scores.load(further)).save(path)
    for path in written:
        if day and path in earlier:
            Scores.load(path).with_earlier(earlier[path], date.fromisoformat(day)).save(path)
    return written


def _with_further(table: Scores, further: Scores) -> Scores:
    """A table with tasks that were run by themselves, and the commands of both."""
    commands = f"{table.command} && {placeless(further, FURTHER)}"
    return table.joined(further).model_copy(update={"command": commands})


def _score_tables(data: Path) -> list[Path]:
    kinds = [name for name, kind in KINDS.items() if kind.result is Scores]
    return [path for kind in kinds for path in data.glob(f"{kind}_*.json")]


if __name__ == "__main__":
    collect(*sys.argv[1:])
