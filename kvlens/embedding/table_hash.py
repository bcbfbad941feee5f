"""Table hash: one hash over vectors, ids and facts, fed as they are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32


class TableHash:
    """The hash of a table of vectors, fed as its rows are written.

    It is the SHA-256 of the rows (float32, little-endian, row after row), then of facts and ids as
    one list in JSON, without spaces, the facts sorted.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, rows: Float32[np.ndarray, "n dimension"]) -> None:
        """Feed the next rows."""
        packed = np.ascontiguousarray(rows, "<f4")
        self._hash.update(packed.reshape(-1).view(np.uint8).data)

    def seal(self, info: Mapping[str, Any], ids: Iterable[str]) -> str:
        """Feed the end.

        Args:
            info: the facts as JSON; a hash among them is left out.
            ids: of all rows, one after another.

        Returns:
            64 hexadecimal digits.
        """
        facts = {name: value for name, value in info.items() if name != "sha256"}
        self._feed(f"[{json.dumps(facts, sort_keys=True, separators=(',', ':'))},[")
        for number, name in enumerate(ids):
            self._feed(("," if number else "") + json.dumps(name))
        self._feed("]]")
        return self._hash.hexdigest()

    def _feed(self, text: str) -> None:
        self._hash.update(text.encode())
