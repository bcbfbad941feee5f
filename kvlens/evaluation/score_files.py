"""Score files: what an evaluation writes into its folder, checked before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.evaluation.kinds import import_mteb
from kvlens.evaluation.scores import Scores
from kvlens.store.files import unwritable, writable_file, write_text


@dataclass(frozen=True)
class ScoreFiles:
    """What is written into the folder of an evaluation.

    Attributes:
        folder: The user's.
        limit: Most items of a task; part of every name.
    """

    folder: Path
    limit: int | None

    def table(self, ending: str) -> Path:
        """The table: for programs (json), spreadsheets (csv) or people (md)."""
        name = f"scores-limit-{self.limit}" if self.limit else "scores"
        return self.folder / f"{name}.{ending}"

    def check_writable(self) -> None:
        """Raise InputError where the tables cannot be written: now, and not after hours."""
        for ending in ("json", "csv", "md"):
            writable_file(self.table(ending))

    def result_cache(self) -> Any:
        """Where mteb keeps its results; raises InputError where it cannot."""
        place = self.folder / f"limit-{self.limit}" if self.limit else self.folder
        try:
            results = import_mteb().ResultCache(place)
        except OSError as error:
            raise unwritable(place, error) from error
        writable_file(results.cache_path / "a file of mteb's")
        return results

    def write(self, table: Scores) -> None:
        """Write the table in all its forms."""
        table.save(self.table("json"))
        write_text(self.table("csv"), table.csv())
        write_text(self.table("md"), table.markdown())
