"""Long context: the retrieval of whole Wikipedia articles, cut at several lengths, by their opening paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvlens.evaluation.beir import retrieval_task
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import fitting
from kvlens.texts.wikipedia import ATTRIBUTION, articles, calibration_texts

LONG, LENGTHS = "LongWikipedia", (256, 512, 1024, 2048, 4096)
# The first 600 passages fit the post-processing and choose the layers; the next 400 serve as nothing but distractors.
SEEN, PASSAGES = 600, 1000
OPENING, REST = 10, 200  # words; what is shorter is a list, a stub or a disambiguation page


def long_articles(
    tokenizer: Any, lengths: Sequence[int] = LENGTHS, corpus: Texts | None = None
) -> list[Any]:
    """One retrieval task a length, `LongWikipedia@256` and so on: find an article's rest by its opening paragraph.

    A document is all but the first paragraph, cut after so many tokens of `tokenizer` (the same text for every
    method; the prompt comes on top). Distractors are 400 Wikipedia passages that nothing else is fitted on; those
    of the query's own article are not ranked for it, since they would be right answers too. corpus: other long
    texts, paragraphs parted by blank lines. Openings below 10 words and rests below 200 are left out.
    Raises InputError when fewer than two articles remain.
    """
    name = "LongTexts" if corpus else LONG
    sources = [(str(i), text) for i, text in enumerate(corpus)] if corpus else articles()
    parts = [(title, *text.strip().partition("\n\n")[::2]) for title, text in sources]
    long = [
        (title, opening, rest)
        for title, opening, rest in parts
        if len(opening.split()) >= OPENING and len(rest.split()) >= REST
    ]
    if len(long) < 2:
        raise InputError(
            f"{len(long)} texts have an opening paragraph of {OPENING} words, a blank line and "
            f"{REST} words more; at least 2 are needed"
        )
    passages = calibration_texts(PASSAGES)
    extra = list(zip(passages.ids or (), passages.items, strict=True))[SEEN:]
    queries = {title: opening for title, opening, _ in long}
    candidates = {
        title: [*queries, *(key for key, _ in extra if key.rpartition(" #")[0] != title)]
        for title in queries
    }
    tasks = []
    for length in lengths:
        cut = {
            title: ("", fitting(tokenizer, rest, PROMPTS["raw"], length)) for title, _, rest in long
        }
        documents = cut | {key: ("", passage) for key, passage in extra}
        source = (
            f"{len(long)} texts cut after {length} tokens, {len(extra)} passages; {ATTRIBUTION}"
        )
        own = {title: {title: 1} for title in queries}
        tasks.append(
            retrieval_task(f"{name}@{length}", queries, documents, own, candidates, source)
        )
    return tasks
