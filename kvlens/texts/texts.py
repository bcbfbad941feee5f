"""Texts: an ordered collection of texts that knows where it comes from."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kvlens.store.artifact import Record
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_texts


class TextsInfo(Record):
    """What a saved result says about its texts: where they come from, how many, and their hash."""

    source: str
    n: int
    sha256: str


@dataclass(frozen=True)
class Texts:
    """An ordered collection of texts.

    Attributes:
        items: the texts.
        source: where they come from, for provenance.
        ids: one per text, or None.
        skipped: how many rows of their file were left out as bad.
    """

    items: tuple[str, ...]
    source: str
    ids: tuple[str, ...] | None = None
    skipped: int = 0

    @cached_property
    def sha256(self) -> str:
        """The hash of the items and their order, of nothing else."""
        return sha256_texts(self.items)

    @property
    def n(self) -> int:
        """How many."""
        return len(self.items)

    def info(self) -> TextsInfo:
        """What a saved result says about these texts."""
        return TextsInfo(source=self.source, n=self.n, sha256=self.sha256)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[str]:
        return iter(self.items)


def as_texts(
    texts: Texts | Iterable[str], source: str = "a list in Python", empty: bool = False
) -> Texts:
    """Anything that holds texts, as `Texts`.

    Args:
        texts: taken as they are when they are `Texts` already.
        source: where they come from.
        empty: take no texts at all, too.

    Returns:
        The texts.

    Raises:
        InputError: for one bare string, an item that is no text, or (unless `empty`) no item.
    """
    if isinstance(texts, Texts):
        return texts
    if isinstance(texts, str | bytes | Mapping | Set) or not isinstance(texts, Iterable):
        raise InputError(f"texts must be a list of strings, not one {type(texts).__name__}")
    items = tuple(texts)
    for i, item in enumerate(items):
        problem = text_problem(item)
        if problem:
            raise InputError(f"texts[{i}] {problem}")
    if not items and not empty:
        raise InputError("the list of texts is empty; give at least one")
    return Texts(items, source)


def text_problem(value: Any) -> str:
    """Why `value` cannot be a text, as the rest of a sentence on it; empty when it can."""
    if not isinstance(value, str):
        return f"is {reprlib.repr(value)} ({type(value).__name__}), not a string"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which no tokenizer takes"
    return ""


def id_problem(value: Any) -> str:
    """Why `value` cannot be a text's id, as the rest of a sentence on its row; empty if it can."""
    if isinstance(value, int) and not isinstance(value, bool):
        return ""
    if not isinstance(value, str):
        return f"has the id {reprlib.repr(value)}, neither a string nor a whole number"
    problem = text_problem(value)
    return f"has an id that {problem}" if problem else ""
