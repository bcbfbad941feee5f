"""Passages: articles cut into runs of whole sentences, mixed in article and in length.

It knows lengths and places only, neither Wikipedia nor files. Every random-looking choice is a
point of a fixed sequence, so that the same articles give the same passages everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

from kvlens.texts.wikitext import Paragraph

MIN_WORDS = 10
MAX_WORDS = 200
# With 10 from each article there would be 957 passages, since some articles are very short.
PER_ARTICLE = 11  # in a sweep over the articles
SWEEPS = 9  # after which next to nothing is left of them
# The longest passage asked for, lowered until an article gives enough: a short article has to
# make do with short passages.
LONGEST = (MAX_WORDS, 100, 50, 25)

Article = tuple[str, list[Paragraph]]
"""Title and paragraphs."""


Runs = list[list[str]]
"""What is left of an article: its unbroken runs of sentences."""


def passages_of(articles: Sequence[Article], most: int | None = None) -> list[tuple[str, str]]:
    """Passages, in rounds over the articles.

    A sweep of 11 rounds is cut at a time, each from what the sweeps before have left.

    Args:
        articles: in their order, which decides the lengths asked for.
        most: how many are wanted; None: all.

    Returns:
        (id, passage), all different; the id is ``title #round``, rounds counted from 1.
    """
    ids: dict[str, str] = {}
    for name, passage in _in_rounds(articles):
        ids.setdefault(passage, name)
        if len(ids) == most:
            break
    return [(name, passage) for passage, name in ids.items()]


def _in_rounds(articles: Sequence[Article]) -> Iterator[tuple[str, str]]:
    left = [_runs(paragraphs) for _, paragraphs in articles]
    for sweep in range(SWEEPS):
        first = sweep * PER_ARTICLE
        cuts = []
        for number, runs in enumerate(left):
            targets = lengths_asked_for(number, len(articles), first)
            passages, left[number] = cut_article(runs, targets)
            cuts.append(passages)
        for turn in range(PER_ARTICLE):
            for (title, _), passages in zip(articles, cuts, strict=True):
                if turn < len(passages):
                    yield f"{title} #{first + turn + 1}", passages[turn]


def golden(i: int) -> float:
    """The i-th point of a sequence whose every prefix covers [0, 1) evenly."""
    return i * (math.sqrt(5) - 1) / 2 % 1


def lengths_asked_for(article: int, n_articles: int, first_round: int = 0) -> list[float]:
    """Words of each passage of a sweep: log-uniform, over the rounds and over the articles."""
    rounds = range(first_round, first_round + PER_ARTICLE)
    places = [golden(turn * n_articles + article) for turn in rounds]
    return [MIN_WORDS * (MAX_WORDS / MIN_WORDS) ** place for place in places]


def cut_article(runs: Runs, targets: Sequence[float]) -> tuple[list[str], Runs]:
    """The passages of one article, in the order of `targets`; fewer where it is too short.

    Args:
        runs: what is left of the article.
        targets: the words asked for, one number a passage.

    Returns:
        As many as the best of `LONGEST` gives, and what is left then.
    """
    best: dict[int, str] = {}
    left = runs
    for longest in LONGEST:
        if len(best) < len(targets):
            shorter, rest = cut_runs(runs, [min(target, longest) for target in targets])
            if len(shorter) > len(best):
                best, left = shorter, rest
    return [best[turn] for turn in sorted(best)], left


def cut(paragraphs: Iterable[Paragraph], targets: Sequence[float]) -> dict[int, str]:
    """Passages of one article, see `cut_runs`.

    Args:
        paragraphs: of the article.
        targets: the words asked for, one number a passage.

    Returns:
        Index of the target -> passage; targets that nothing is left for are absent.
    """
    return cut_runs(_runs(paragraphs), targets)[0]


def _runs(paragraphs: Iterable[Paragraph]) -> Runs:
    return [run for paragraph in paragraphs for run in unbroken(paragraph)]


def cut_runs(runs: Runs, targets: Sequence[float]) -> tuple[dict[int, str], Runs]:
    """Passages of one article; none crosses a gap or a paragraph, none overlaps another.

    The longest target is served first. Among the passages within 10 % of the r-th target, the one
    nearest to the place ``golden(r)`` of the article is taken.

    Args:
        runs: what is left of the article.
        targets: the words asked for, one number a passage.

    Returns:
        Index of the target -> passage, where targets that nothing is left for are absent; and what
        is left then.
    """
    runs = list(runs)
    passages: dict[int, str] = {}
    for turn in sorted(range(len(targets)), key=lambda turn: -targets[turn]):
        choices = _choices(runs, targets[turn], golden(turn))
        best = min(choices, default=None)
        if best is not None:
            run = runs[best.run]
            passages[turn] = " ".join(run[: best.end])
            runs[best.run] = run[best.end :]
    return passages, runs


def unbroken(paragraph: Paragraph) -> list[list[str]]:
    """The runs of sentences between a paragraph's gaps; an empty run stands for gaps in a row."""
    groups = [list(group) for _, group in groupby(paragraph, key=bool)]
    return [[sentence for sentence in group if sentence] for group in groups]


class _Choice(NamedTuple):
    """A possible passage; the least is the best."""

    tenths: int  # of the target's logarithm that it misses, rounded down
    from_place: float
    off: float
    run: int
    end: int


def _choices(runs: Sequence[list[str]], target: float, place: float) -> Iterator[_Choice]:
    """Every beginning of a run that is neither too short nor too long."""
    for index, run in enumerate(runs):
        from_place = abs(index / len(runs) - place)
        for end, words in enumerate(accumulate(len(sentence.split()) for sentence in run), 1):
            if MIN_WORDS <= words <= MAX_WORDS:
                off = abs(math.log(words / target))
                yield _Choice(int(10 * off), from_place, off, index, end)
