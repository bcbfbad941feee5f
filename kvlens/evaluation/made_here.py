"""Tasks that are made here: by name, what makes them.

Their names are in the terminal's help, so that nothing heavy is imported here but inside a maker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvlens.texts.texts import Texts


@dataclass(frozen=True)
class Material:
    """What tasks can be made of; a maker takes what it needs.

    Attributes:
        tokenizer: counts the tokens.
        lengths: of documents, in tokens, for tasks that cut them.
        corpus: the user's own texts; None: Wikipedia.
    """

    tokenizer: Any
    lengths: Sequence[int]
    corpus: Texts | None = None


Maker = Callable[[Material], list[Any]]


def long_wikipedia(material: Material) -> list[Any]:
    """Whole articles, cut at each of the lengths, are found by their opening paragraph."""
    from kvlens.evaluation.long_texts import long_articles

    return long_articles(material.tokenizer, material.lengths, material.corpus)


MADE_HERE: dict[str, Maker] = {
    "LongWikipedia": long_wikipedia,
}


def make_tasks(names: Sequence[str], material: Material) -> list[Any]:
    """The tasks among the names that are made here.

    Args:
        names: of any tasks; those of `MADE_HERE` count.
        material: what they are made of.

    Returns:
        Tasks of mteb, in the order of the names.

    Raises:
        InputError: where the material does not do.
    """
    makers = [MADE_HERE[name] for name in names if name in MADE_HERE]
    return [task for maker in makers for task in maker(material)]
