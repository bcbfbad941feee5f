"""Texts: an ordered collection of texts that knows where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kvlens.store.arguments import list_argument, shown, text_argument, whole_number
from kvlens.store.artifact import Record
from kvlens.store.bounds import Count
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_texts


class TextsInfo(Record):
    """What a saved result says about its texts: where they come from, how many, and their hash."""

    source: str
    n: Count
    sha256: str


@dataclass(frozen=True)
class Texts:
    """An ordered collection of texts.

    Attributes:
        items: the texts.
        source: where they come from, for provenance.
        ids: one per text, or None.
        skipped: how many rows of their file were left out as bad.

    Raises:
        InputError: for items or ids that are no texts, and another number of ids than of items.
    """

    items: tuple[str, ...]
    source: str
    ids: tuple[str, ...] | None = None
    skipped: int = 0

    def __post_init__(self) -> None:
        text_argument("source", self.source)
        object.__setattr__(self, "skipped", whole_number("skipped", self.skipped, least=0))
        object.__setattr__(self, "items", _strings("items", self.items))
        if self.ids is None:
            return
        object.__setattr__(self, "ids", _strings("ids", self.ids))
        if len(self.ids) != len(self.items):
            raise InputError(f"{len(self.ids)} `ids` for {len(self.items)} texts: one each")

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
    texts: Texts | Iterable[str],
    source: str = "a list in Python",
    empty: bool = False,
    name: str = "texts",
) -> Texts:
    """Anything that holds texts, as `Texts`.

    Args:
        texts: a list, a tuple, a column of a table, an array; taken as they are when they are
            `Texts` already.
        source: where they come from.
        empty: take no texts at all, too.
        name: of the caller's parameter, for messages.

    Returns:
        The texts.

    Raises:
        InputError: for one bare string, a whole table, an item that is no text, or (unless
            `empty`) no item.
    """
    if isinstance(texts, Texts):
        if not texts.items and not empty:
            raise InputError(f"`{name}` is empty; give at least one")
        return texts
    if hasattr(texts, "columns"):  # iterating over a table of pandas gives the columns' names
        kind = type(texts).__name__
        raise InputError(f"`{name}` is a {kind}: give one column of it, such as table['text']")
    items = _strings(name, texts)
    if not items and not empty:
        raise InputError(f"`{name}` is empty; give at least one text")
    return Texts(items, source)


def _strings(name: str, values: Any) -> tuple[str, ...]:
    """The members of a list as Python's own strings; numpy has a class of its own for them."""
    members = list_argument(name, values, "strings")
    for i, member in enumerate(members):
        problem = text_problem(member)
        if problem:
            raise InputError(f"`{name}`[{i}] {problem}")
    return tuple(member if type(member) is str else str(member) for member in members)


def text_problem(value: Any) -> str:
    """Why `value` cannot be a text, as the rest of a sentence on it; empty when it can."""
    if not isinstance(value, str):
        return f"is {shown(value)} ({type(value).__name__}), not a string"
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
        return f"has the id {shown(value)}, neither a string nor a whole number"
    problem = text_problem(value)
    return f"has an id that {problem}" if problem else ""
