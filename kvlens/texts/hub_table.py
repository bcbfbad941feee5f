"""Hub table: a data set of the Hugging Face hub, row by row, as `datasets` streams it.

Its address is ``hf://ORG/NAME[/CONFIG][:SPLIT][#COLUMN]``. Nothing is fetched before the first row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kvlens.store.errors import InputError, one_line, shortened
from kvlens.texts.columns import Columns, Row, quoted

FILES = "hf://datasets/"  # an address of a single file there, which fsspec opens
ADDRESS = re.compile(
    r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[^:#/]+))?"
    r"(?::(?P<split>[^#]+))?(?:#(?P<column>.+))?"
)


@dataclass(frozen=True)
class HubTable:
    """A split of a data set.

    Attributes:
        name: ``ORG/NAME``, or a local folder of data files of that name.
        config: None: the only one.
        split: None: the only one.
        column: with the texts; None: not said.
    """

    name: str
    config: str | None = None
    split: str | None = None
    column: str | None = None

    @classmethod
    def at(cls, address: str) -> HubTable | None:
        """The data set that an address means, before anything is fetched; None: no data set.

        Raises:
            InputError: for an address that begins as one of a data set and is none.
        """
        if not address.startswith("hf://") or address.startswith(FILES):
            return None
        match = ADDRESS.fullmatch(address)
        if match is None:
            raise InputError(
                f"{shortened(address, 100)} names no data set: give "
                "hf://ORG/NAME[/CONFIG][:SPLIT][#COLUMN]"
            )
        return cls(**match.groupdict())

    def rows(self, columns: Columns) -> Iterator[Row]:
        """The rows in the order of the hub, fetched as they are asked for.

        Raises:
            InputError: when it cannot be fetched, and for columns that it does not have.
        """
        number = -1
        try:
            for number, fields in enumerate(self._loaded()):
                if not number:
                    names = columns.among(list(fields))
                yield Row(f"row {number + 1}", number, {name: fields[name] for name in names})
        except (InputError, OSError):
            raise
        except Exception as error:  # what `datasets` raises shares no base
            reason = shortened(f"{type(error).__name__}: {one_line(error)}", 200)
            raise InputError(f"cannot be read after row {number + 1}: {reason}") from error

    def _loaded(self) -> Any:
        """The split, of which nothing has been read."""
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise InputError("needs the package datasets: pip install datasets") from error
        found = load_dataset(self.name, self.config, split=self.split, streaming=True)
        if self.split is not None:
            return found
        if len(found) != 1:
            raise InputError(
                f"has the splits {quoted(found)}: name one, such as {self.name}:{next(iter(found))}"
            )
        return next(iter(found.values()))
