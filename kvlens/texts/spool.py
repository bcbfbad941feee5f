"""Spool: texts that can be read only once, or not cheaply again, written to a file beside the work.

Standard input is such a source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvlens.texts.text_file import Entries, Entry


@dataclass(frozen=True)
class Spool:
    """Texts in a file of our own, which holds nothing but what was read.

    Attributes:
        path: the file, a JSON list a row.
        name: what they are called in messages.
        source: where they come from.
    """

    path: Path
    name: str
    source: str

    @classmethod
    def of(cls, texts: Entries, path: Path) -> Spool:
        """Read texts to their end into a new file; raises InputError as `Entries.entries`."""
        with path.open("w", encoding="utf-8") as file:
            for entry in texts.entries():
                row = [entry.text, entry.id, entry.is_numbered, entry.problem]
                file.write(json.dumps(row) + "\n")
        return cls(path, texts.name, texts.source)

    def entries(self) -> Iterator[Entry]:
        """The rows in their order, as they were read."""
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text, row_id, is_numbered, problem = json.loads(line)
                yield Entry(f"row {number}", text, row_id, is_numbered, problem)
