"""Columns: one row of a table, and which columns of it are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kvlens.store.errors import InputError, shortened

NAMES_SHOWN = 8  # columns that a message lists


@dataclass(frozen=True)
class Row:
    """One row of a table file.

    Attributes:
        place: where it stands, in words, such as "line 3" (where it ends) or "row 7".
        number: its number from 0: of the line in .txt and .jsonl, of the row elsewhere.
        fields: column -> value, at least the columns asked for; None where it cannot be read.
        problem: why it cannot be used, as the rest of a sentence on the row; empty when it can.
    """

    place: str
    number: int
    fields: Mapping[str, Any] | None
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns are read.

    Attributes:
        required: without them a table is refused.
        optional: read where the table has them.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def among(self, names: Sequence[str]) -> list[str]:
        """The columns to read of a table that has `names`.

        Raises:
            InputError: for one that is absent, or there twice.
        """
        absent = self.absent(names)
        if absent:
            raise InputError(f"no column {absent[0]!r}; it has: {quoted(names)}")
        present = [column for column in self.optional if column in names]
        chosen = list(dict.fromkeys([*self.required, *present]))
        repeated = self.repeated(names)
        if repeated:
            raise InputError(f"two columns are called {repeated[0]!r}; rename one")
        return chosen

    def absent(self, names: Iterable[str]) -> list[str]:
        """The required columns that are not among `names`."""
        return [column for column in self.required if column not in names]

    def repeated(self, names: Sequence[str]) -> list[str]:
        """The columns that are more than once among `names`."""
        return [column for column in (*self.required, *self.optional) if names.count(column) > 1]


def quoted(names: Iterable[str]) -> str:
    """Names of columns for a message, the first few of many."""
    shown = [repr(shortened(name, 40)) for name in islice(names, NAMES_SHOWN + 1)]
    if len(shown) > NAMES_SHOWN:
        shown[NAMES_SHOWN] = "…"
    return ", ".join(shown)
