"""JSON object: one whose names stand more than once remembers that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Repeating(dict[str, Any]):
    """A JSON object with a name more than once; the last value counts, as everywhere in Python.

    Attributes:
        names: as they stand.
    """

    names: Sequence[str]


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values; for `json.loads`."""
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    repeating = Repeating(fields)
    repeating.names = [name for name, _ in pairs]
    return repeating
