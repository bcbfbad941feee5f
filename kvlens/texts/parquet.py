"""Parquet: the rows of a file whose every page may be damaged, by pyarrow.

It knows no file name: what it refuses says what is wrong with the content.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import IO, Any

from kvlens.store.errors import InputError, one_line
from kvlens.texts.contents import Unzipped

ROWS_AT_A_TIME = 1024
ROWS_ANYWAY = 10_000_000
ROWS_A_BYTE = 100  # equal rows take next to nothing, but no file has that many

Cells = dict[str, Any]


class ParquetTable:
    """The table of a Parquet file.

    Attributes:
        names: of its columns, in their order.

    Raises:
        InputError: when it is none that can be read.
    """

    def __init__(self, file: IO[bytes] | Unzipped):
        import pyarrow.parquet as pq

        if isinstance(file, Unzipped):  # pyarrow jumps, and every jump back would unzip it again
            file = io.BytesIO(file.everything())
        with _refused("not a readable Parquet file"):
            self._table = pq.ParquetFile(file)
            self.names: list[str] = list(self._table.schema_arrow.names)
        n_bytes = file.seek(0, io.SEEK_END)
        n_rows = self._table.metadata.num_rows
        if n_rows > max(ROWS_ANYWAY, ROWS_A_BYTE * n_bytes):
            raise InputError(f"claims {n_rows} rows in {n_bytes} bytes")

    def rows(self, names: Sequence[str]) -> Iterator[tuple[Cells | None, str]]:
        """The cells of each row, read as they are asked for.

        Args:
            names: of the columns, each in the table once.

        Yields:
            (cells by column, empty), or (None, why the row cannot be used).

        Raises:
            InputError: for a page that cannot be read.
        """
        n = 0
        with _refused("not a readable Parquet file"):
            batches = self._table.iter_batches(ROWS_AT_A_TIME, columns=list(names))
        while True:
            with _refused(f"not readable after row {n}"):
                batch = next(batches, None)
            if batch is None:
                return
            yield from _cells(batch, names)
            n += batch.num_rows


def _cells(batch: Any, names: Sequence[str]) -> Iterator[tuple[Cells | None, str]]:
    """The rows of a batch; pyarrow looks at the letters of a text only when it hands it out."""
    try:
        rows = batch.to_pylist()
    except Exception:  # row by row, then: which one it is cannot be seen
        yield from (_row_cells(batch, row, names) for row in range(batch.num_rows))
    else:
        yield from ((cells, "") for cells in rows)


def _row_cells(batch: Any, row: int, names: Sequence[str]) -> tuple[Cells | None, str]:
    cells = {}
    for name in names:
        try:
            cells[name] = batch.column(name)[row].as_py()
        except UnicodeDecodeError as error:
            return None, f"is not UTF-8 in the column {name!r} ({error.reason})"
        except Exception as error:
            return None, f"cannot be read in the column {name!r} ({one_line(error)})"
    return cells, ""


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Make one line of whatever pyarrow raises: OSError, ValueError, KeyError, its own."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what} ({one_line(error)})") from None
