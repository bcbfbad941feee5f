"""Limits: how long a text may be, what happens to a longer one, how much fits into one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from kvlens.store.arguments import flag_argument, whole_number

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
        object.__setattr__(self, "strict", flag_argument("strict", self.strict))
        for name in ("max_length", "batch_tokens"):
            value = getattr(self, name)
            if value is not None or name == "batch_tokens":
                object.__setattr__(self, name, whole_number(name, value, least=1))

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
            InputError: for a value that is no whole number of at least 1.
        """
        unknown = sorted(options.keys() - LimitOptions.__annotations__.keys())
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        n_tokens = options.get("batch_tokens")
        return cls(
            max_length=options.get("max_length"),
            strict=options.get("strict", False),
            batch_tokens=batch_tokens if n_tokens is None else n_tokens,
        )

    def tokens_for(self, context: int) -> int:
        """Most tokens of a text on a model whose context has `context` tokens."""
        return min(self.max_length or context, context)
