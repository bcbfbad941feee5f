"""Draws: the ID by layer of random halves of the texts; how it is measured is in `halves`.

A half without replacement differs from the whole as much as the whole differs from other texts of
its kind: the variance is 1 / (n / 2) - 1 / n = 1 / n of a text's. So what a rule chooses from the
halves shows how far its choice rests on these very texts. All layers have the same halves, since
they share their texts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from kvlens.store.artifact import Record
from kvlens.store.bounds import MOST, Size, at_most, within

MOST_DRAWS = 10_000
DECIMALS = 3  # of an ID in a draw; its standard error is some hundred times as large


def _numbers(value: Any) -> Any:
    return tuple(map(float, value.split())) if isinstance(value, str) else value


def _line(values: tuple[float, ...]) -> str:
    return " ".join(map(repr, values))


LineOfIDs = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    BeforeValidator(_numbers),
    PlainSerializer(_line),
    WithJsonSchema({"type": "string", "description": "the ID of each layer, one space between"}),
]
"""One draw's ID by layer; in a file one line of text, since a number a line would fill pages."""


class Draws(Record):
    """The ID of random parts of the texts, mostly halves, by layer.

    Attributes:
        n: texts of a part.
        seed: of the parts.
        values: estimator -> one line a draw, the ID of each layer of the profile.
    """

    n: Size
    seed: Annotated[int, within(0, MOST)]
    values: dict[
        str,
        Annotated[tuple[LineOfIDs, ...], Field(min_length=1), at_most(MOST_DRAWS, "draws")],
    ]
