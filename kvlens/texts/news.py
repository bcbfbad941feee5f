"""News: a second genre of calibration texts, passages of the Lee corpus that gensim's wheel ships.

What is measured on an encyclopaedia alone may be a matter of the encyclopaedia.
"""

from __future__ import annotations

import functools

from kvlens.store.arguments import whole_number
from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir
from kvlens.store.wheels import fetch_from_wheels
from kvlens.texts.passages import Article, passages_of
from kvlens.texts.texts import Texts
from kvlens.texts.wikitext import sentences

# Printed wherever the passages are; goes into `source`.
ATTRIBUTION = (
    "the Lee background corpus (300 news items of the Australian Broadcasting Corporation, 2000 to "
    "2001; Lee, Pincombe and Welsh 2005; shipped by gensim 4.4.0)"
)

CORPUS = ("gensim==4.4.0", "gensim/test/test_data/lee_background.cor")
CORPUS_SHA256 = "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb"


def news_texts(n: int = 600) -> Texts:
    """`n` distinct passages of news, each of 10 to 200 words and of whole sentences.

    Cut as `kvlens.calibration_texts` are, round by round over the items of the corpus; the first n
    are the same whatever n is. Fetched at first use, then cached.

    Args:
        n: how many, at least 1.

    Returns:
        The passages; their ids are ``news NUMBER #round``.

    Raises:
        InputError: when n is out of range or the fetch fails.
    """
    n = whole_number("n", n)
    passages = passages_of(_items(), n) if n > 0 else []
    if len(passages) != max(n, 1):
        most = len(passages_of(_items()))
        raise InputError(f"`n` is {n}; there are 1 to {most} news texts")
    ids, items = zip(*passages, strict=True)
    return Texts(items, f"passages from {ATTRIBUTION}", ids)


@functools.cache
def _items() -> tuple[Article, ...]:
    """Name and sentences of each news item, one a line of the corpus."""
    file = fetch_from_wheels([CORPUS], CORPUS_SHA256, cache_dir() / "texts" / "lee_background.cor")
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple((f"news {number}", [sentences(line)]) for number, line in enumerate(lines, 1))
