"""Room: how large batches may be, which a process finds out while it runs."""

from __future__ import annotations


class Room:
    """The most padded tokens of a batch; it shrinks where memory turns out to be short.

    Attributes:
        planned: how many were asked for.
        tokens: how many there may be from here on.
        is_told: whether it was said that memory is short.
    """

    def __init__(self, planned: int):
        """Room as it is planned."""
        self.planned = planned
        self.is_told = False
        self.tokens = planned

    @property
    def short(self) -> int | None:
        """How many tokens there may be, where these are fewer than were planned."""
        return self.tokens if self.tokens < self.planned else None

    def set_short(self, tokens: int | None) -> None:
        """Go on with what another process has found out; None: nothing."""
        self.tokens = self.planned if tokens is None else min(tokens, self.planned)
