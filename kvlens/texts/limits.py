"""Limits: how long a text may be, what happens to a longer one, how much fits into one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from kvlens.store.errors import InputError

BATCH_TOKENS = 2048


class LimitOptions(TypedDict, total=False):
    """The keywords by which public functions take `Limits`."""

    max_length: int | None
    strict: bool
    batch_tokens: int | None


@dataclass(frozen=True)
class Limits:
    """What bounds a forward pass.

    Attributes:
        max_length: most tokens of a text, prompt included; None: the model's context.
        strict: refuse a longer text, where it is cut otherwise.
        batch_tokens: most padded tokens of a batch; a single text may have more.
    """

    max_length: int | None = None
    strict: bool = False
    batch_tokens: int = BATCH_TOKENS

    def __post_init__(self) -> None:
        for name in ("max_length", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` is {value}; it must be at least 1")

    @classmethod
    def of(cls, options: LimitOptions, batch_tokens: int = BATCH_TOKENS) -> Limits:
        """Limits out of keywords.

        Args:
            options: those that were given.
            batch_tokens: where `options` say nothing of it.

        Returns:
            The limits.

        Raises:
            TypeError: for a keyword that is none of them.
            InputError: for a value below 1.
        """
        unknown = sorted(options.keys() - LimitOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        return cls(
            max_length=options.get("max_length"),
            strict=options.get("strict", False),
            batch_tokens=options.get("batch_tokens") or batch_tokens,
        )

    def tokens_for(self, context: int) -> int:
        """Most tokens of a text on a model whose context has `context` tokens."""
        return min(self.max_length or context, context)
