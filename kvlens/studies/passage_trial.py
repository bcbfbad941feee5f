"""Passage trial: embeddings judged without labels, by passages that have to be found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from kvlens.analysis.geometry import alignment, uniformity
from kvlens.evaluation.significance import Counts
from kvlens.store.errors import InputError
from kvlens.studies.trials import PARTS, Items, Space, Trial, Vectors, spread, unit_length
from kvlens.texts.passages import golden
from kvlens.texts.texts import Texts

KEPT = 0.7  # share of a passage's words that are in its damaged copy
MOST_OF_AN_ARTICLE = 6  # passages: more of one would be a question of that article


@dataclass(frozen=True)
class PassageTrial(Trial):
    """Passages without labels: what belongs together has to be found again.

    An item is a passage, and its number, 0 to 100, the mean of: the average precision of the other
    passages of its article among all passages; the reciprocal rank of its second half among all
    second halves, asked with the first, and the other way round; the reciprocal rank of the
    passage among all, asked with a damaged copy, in which words are missing. Passages are drawn as
    if they were independent, which those of one article are not.

    Attributes:
        passages: all different.
        articles: which article each is of.
    """

    passages: tuple[str, ...]
    articles: tuple[str, ...]
    kind = "passages"

    @classmethod
    def parts(cls, texts: Texts, most: Sequence[int]) -> Iterator[PassageTrial]:
        """Three trials of passages of different articles.

        Args:
            texts: passages whose ids are ``ARTICLE #number``; else each is its own article.
            most: passages of each.

        Raises:
            InputError: for passages of fewer than two words, which have no halves.
        """
        for text in texts.items:
            if len(text.split()) < 2:
                raise InputError(f"the text {text[:40]!r} has no two halves: give longer texts")
        names = [name.partition(" #")[0] for name in texts.ids or map(str, range(texts.n))]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        for wanted, n in zip(((0,), (1, 2), (3, 4)), most, strict=True):
            inside = [name for name in numbers if numbers[name] % PARTS in wanted]
            yield cls._of_articles(texts.items, names, inside, n)

    @classmethod
    def _of_articles(
        cls, passages: Sequence[str], names: Sequence[str], inside: Sequence[str], most: int
    ) -> PassageTrial:
        """Whole articles, in their order, until there are enough passages."""
        of_article: dict[str, list[str]] = {name: [] for name in inside}
        for passage, name in zip(passages, names, strict=True):
            if name in of_article and len(of_article[name]) < MOST_OF_AN_ARTICLE:
                of_article[name].append(passage)
        taken = [(passage, name) for name, group in of_article.items() for passage in group]
        distinct = dict(taken[:most])
        return cls(tuple(distinct), tuple(distinct.values()))

    def some(self, n: int) -> PassageTrial:
        """The passages of articles that are spread over all, until there are `n`."""
        names = list(dict.fromkeys(self.articles))
        n_articles = -(-n * len(names) // self.n)
        inside = {names[place] for place in spread(len(names), n_articles)}
        kept = [place for place, name in enumerate(self.articles) if name in inside]
        passages = tuple(self.passages[place] for place in kept)
        return PassageTrial(passages, tuple(self.articles[place] for place in kept))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The passages, their halves and their damaged copies, each once."""
        return tuple(dict.fromkeys([*self.passages, *self._firsts, *self._seconds, *self._copies]))

    @property
    def n(self) -> int:
        """How many passages."""
        return len(self.passages)

    def items(self, vectors: Vectors) -> Float[np.ndarray, " n"]:
        """How well each passage finds what belongs to it, 0 to 100."""
        rows = self._rows(vectors)
        passages, firsts, seconds, copies = rows
        found = [
            (_reciprocal_ranks(firsts @ seconds.T) + _reciprocal_ranks(seconds @ firsts.T)) / 2,
            _reciprocal_ranks(copies @ passages.T),
        ]
        mean = np.mean(found, axis=0)
        has_others = self._together.any(1)
        precision = average_precisions(passages @ passages.T, self._together)
        return 100 * np.where(has_others, (2 * mean + precision) / 3, mean)

    def scores(self, items: Items, counts: Counts) -> Float[np.ndarray, "sets draws"]:
        """The mean over passages."""
        return items @ counts.T / counts.sum(1)

    def space(self, vectors: Vectors) -> Space:
        """Alignment of the halves, uniformity of the passages."""
        passages, firsts, seconds, _ = self._rows(vectors)
        return Space(alignment(firsts, seconds), uniformity(passages))

    def _rows(self, vectors: Vectors) -> list[Float[np.ndarray, "n d"]]:
        """Unit vectors of the passages, their first and second halves, and their copies."""
        unit = unit_length(vectors)
        row_of = {text: row for row, text in enumerate(self.texts)}
        groups = (self.passages, self._firsts, self._seconds, self._copies)
        return [unit[[row_of[text] for text in group]] for group in groups]

    @cached_property
    def _together(self) -> Bool[np.ndarray, "n n"]:
        """Which passages are of one article; none with itself."""
        names = np.array(self.articles)
        same = names[:, None] == names[None]
        np.fill_diagonal(same, False)
        return same

    @cached_property
    def _firsts(self) -> tuple[str, ...]:
        return tuple(halves(passage)[0] for passage in self.passages)

    @cached_property
    def _seconds(self) -> tuple[str, ...]:
        return tuple(halves(passage)[1] for passage in self.passages)

    @cached_property
    def _copies(self) -> tuple[str, ...]:
        return tuple(damaged(passage) for passage in self.passages)


def halves(passage: str) -> tuple[str, str]:
    """The first and the second half of a passage's words; the second has the odd one."""
    words = passage.split()
    middle = len(words) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])


def damaged(passage: str) -> str:
    """A passage in which three of ten words are missing, evenly spread; one word is left."""
    words = passage.split()
    kept = [word for place, word in enumerate(words) if golden(place) < KEPT]
    return " ".join(kept)


def average_precisions(
    similarities: Float[np.ndarray, "n n"], relevant: Bool[np.ndarray, "n n"]
) -> Float[np.ndarray, " n"]:
    """The average precision of each row's ranking, itself left out; 0 where nothing is relevant."""
    n = len(similarities)
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    order = np.argsort(-others, axis=1, kind="stable")[:, : n - 1]
    hits = np.take_along_axis(relevant, order, axis=1)
    precision = hits.cumsum(1) / np.arange(1, n)
    return (precision * hits).sum(1) / np.maximum(hits.sum(1), 1)


def _reciprocal_ranks(similarities: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """1 over the place of each row's own column; of equals, the own one comes last."""
    own = np.diagonal(similarities)[:, None]
    return 1 / (similarities >= own).sum(1)
