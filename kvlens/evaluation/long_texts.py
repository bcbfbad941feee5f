"""Long context: whole articles, cut at several lengths, are found by their opening paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlens.evaluation.retrieval import Collection, retrieval_task
from kvlens.store.checking import a, arguments, function, members, optional, whole
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import fitting
from kvlens.texts.wikipedia import ATTRIBUTION, articles, calibration_texts

LONG = "LongWikipedia"
LENGTHS = (256, 512, 1024, 2048, 4096)
# The first 600 passages fit the post-processing and choose the layers; the next 400 serve as
# nothing but distractors.
SEEN = 600
PASSAGES = 1000
# In words; what is shorter is a list, a stub or a disambiguation page.
OPENING = 10
REST = 200


@dataclass(frozen=True)
class _Article:
    title: str
    opening: str
    rest: str

    @property
    def is_long(self) -> bool:
        return len(self.opening.split()) >= OPENING and len(self.rest.split()) >= REST


@arguments(
    tokenizer=function,
    lengths=members(whole(least=1), "numbers of tokens"),
    corpus=optional(a(Texts, "texts of `kvlens.read_texts`")),
)
def long_articles(
    tokenizer: Any, lengths: Sequence[int] = LENGTHS, corpus: Texts | None = None
) -> list[Any]:
    """One retrieval task a length, ``LongWikipedia@256`` and so on: find an article by its opening.

    A document is all but the first paragraph, cut after so many tokens (the same text for every
    method; the prompt comes on top). Distractors are 400 Wikipedia passages that nothing else is
    fitted on; those of the query's own article are not ranked for it, since they would be right
    answers too. Openings below 10 words and rests below 200 are left out.

    Args:
        tokenizer: Counts the tokens.
        lengths: Of the documents, in tokens.
        corpus: Other long texts, paragraphs parted by blank lines.

    Raises:
        InputError: When fewer than two articles remain.
    """
    long = _long_ones(corpus)
    passages = _distractors()
    queries = {article.title: article.opening for article in long}
    candidates = {title: [*queries, *_not_from(title, passages)] for title in queries}
    relevant = {title: {title: 1} for title in queries}
    tasks = []
    for length in lengths:
        documents = {
            article.title: ("", fitting(tokenizer, article.rest, PROMPTS["raw"], length))
            for article in long
        }
        documents |= {key: ("", passage) for key, passage in passages.items()}
        collection = Collection(queries, documents, relevant, candidates)
        name = f"{'LongTexts' if corpus else LONG}@{length}"
        source = f"{len(long)} texts cut after {length} tokens, {len(passages)} passages"
        tasks.append(retrieval_task(name, collection, f"{source}; {ATTRIBUTION}"))
    return tasks


def _long_ones(corpus: Texts | None) -> list[_Article]:
    long = [article for article in map(_split, _sources(corpus)) if article.is_long]
    if len(long) < 2:
        raise InputError(
            f"{len(long)} texts have an opening paragraph of {OPENING} words, a blank line and "
            f"{REST} words more; at least 2 are needed"
        )
    return long


def _sources(corpus: Texts | None) -> list[tuple[str, str]]:
    if corpus:
        return [(str(i), text) for i, text in enumerate(corpus)]
    return articles()


def _split(source: tuple[str, str]) -> _Article:
    title, text = source
    opening, _, rest = text.strip().partition("\n\n")
    return _Article(title, opening, rest)


def _distractors() -> dict[str, str]:
    """Passages by their id, which is ``title #round``."""
    passages = calibration_texts(PASSAGES)
    by_id = list(zip(passages.ids or (), passages.items, strict=True))
    return dict(by_id[SEEN:])


def _not_from(title: str, passages: dict[str, str]) -> list[str]:
    return [key for key in passages if key.rpartition(" #")[0] != title]
