"""Bounds: how large what a file says may be, so that an absurd one is refused before it costs.

They are validators and not pydantic's own constraints, which would change the published schema of
the layer set.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated, Any

from pydantic import AfterValidator

from kvlens.store.layer_ranges import MOST_LAYERS

MOST = 2**53  # of anything counted; above, JSON's numbers are no longer exact elsewhere


def within(least: float, most: float) -> AfterValidator:
    """A number from `least` to `most`, both among them; NaN is in no range."""

    def check(value: Any) -> Any:
        if not least <= value <= most:
            raise ValueError(f"{value!r:.40} is not in {least:g} to {most:g}")
        return value

    return AfterValidator(check)


def at_most(n: int, what: str) -> AfterValidator:
    """No more than `n` of something, such as characters."""

    def check(value: Sized) -> Sized:
        if len(value) > n:
            raise ValueError(f"{len(value):,} {what} are more than {n:,}")
        return value

    return AfterValidator(check)


Count = Annotated[int, within(0, MOST)]
"""How many there are."""

Size = Annotated[int, within(1, MOST)]
"""How many there are of what cannot be missing."""

BlockCount = Annotated[int, within(1, MOST_LAYERS)]
"""How many blocks a model has."""
