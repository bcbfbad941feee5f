"""Wikipedia: the articles that gensim's wheel ships, and calibration passages cut from them."""

from __future__ import annotations

import bz2
import importlib.metadata
import json
from pathlib import Path
from xml.etree import ElementTree

from pydantic import TypeAdapter

from kvlens.store.arguments import whole_number
from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir, cache_folder, sha256_texts, write_text
from kvlens.store.notices import notice
from kvlens.store.wheels import fetch_from_wheels
from kvlens.texts import wikitext
from kvlens.texts.passages import Article, passages_of
from kvlens.texts.texts import Texts
from kvlens.texts.wikitext import Paragraph

# Printed wherever the passages are; goes into `source`.
ATTRIBUTION = (
    "English Wikipedia contributors, dump of May 2016 (excerpt shipped by gensim 4.4.0), "
    "CC BY-SA 3.0"
)

DUMP = (
    "gensim==4.4.0",
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
)
DUMP_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"
PARSERS = ("mwparserfromhell", "sentencex")


def calibration_texts(n: int = 1000) -> Texts:
    """`n` distinct passages of Wikipedia prose, each of 10 to 200 words and of whole sentences.

    Deterministic: the first n passages are the same whatever n is. Round by round, each article
    gives one passage, so that any first n are mixed in article and in length (log-uniform, as far
    as paragraphs are long enough). No article gives more than 10 passages up to n = 957, nor more
    than 11 up to n = 1,047: 16 of the 106 give fewer, four of them none. Beyond, long articles give
    more. Fetched at first use, then cached.

    Args:
        n: how many, at least 1; see `most_calibration_texts`.

    Returns:
        The passages; their ids are ``title #round``.

    Raises:
        InputError: when n is out of range or the fetch fails.
    """
    n = whole_number("n", n)
    passages = passages_of(parsed_articles(), n) if n > 0 else []
    if len(passages) != max(n, 1):
        raise InputError(f"`n` is {n}; there are 1 to {most_calibration_texts()} calibration texts")
    ids, items = zip(*passages, strict=True)
    return Texts(items, f"passages from {ATTRIBUTION}", ids)


def most_calibration_texts() -> int:
    """How many calibration texts there are."""
    return len(passages_of(parsed_articles()))


def articles() -> list[tuple[str, str]]:
    """The Wikipedia articles as plain text.

    Returns:
        (title, text) of each: its whole sentences, without lists, tables, notes, headings and
        formulas; a blank line between paragraphs.

    Raises:
        InputError: when the fetch fails.
    """
    return [(title, _plain(blocks)) for title, blocks in parsed_articles()]


def _plain(blocks: list[Paragraph]) -> str:
    texts = [" ".join(filter(None, sentences)) for sentences in blocks]
    return "\n\n".join(filter(None, texts))


def parsed_articles() -> list[Article]:
    """Title and paragraphs of each article, from the cache where it was parsed before.

    Parsing takes about three seconds, so the result is kept, under a name made of all that it
    depends on: the dump, the two files of ours that decide, and the parsers' versions. What is kept
    carries its own hash; where it is damaged, it is made again, with a warning.
    """
    cached = _parsed_file()
    if cached.exists():
        try:
            return _unpacked(cached.read_bytes())
        except (OSError, ValueError):
            notice(f"{cached} is damaged: the articles are parsed again")
    cache_folder("texts")
    parsed = _parse_dump()
    write_text(cached, _packed(parsed))
    return parsed


_ARTICLES = TypeAdapter(list[Article])


def _packed(parsed: list[Article]) -> str:
    """Articles as JSON, behind the hash of it."""
    content = json.dumps(parsed)
    return f"{sha256_texts([content])}\n{content}"


def _unpacked(stored: bytes) -> list[Article]:
    """What `_packed` packed; raises ValueError for anything else."""
    digest, _, content = stored.decode().partition("\n")
    if digest != sha256_texts([content]):
        raise ValueError("not what was written")
    return _ARTICLES.validate_json(content)


def _parsed_file() -> Path:
    deciding = [Path(file).read_text(encoding="utf-8") for file in (__file__, wikitext.__file__)]
    parsers = [importlib.metadata.version(name) for name in PARSERS]
    key = sha256_texts([DUMP_SHA256, *deciding, *parsers])
    return cache_dir() / "texts" / f"articles-{key[:16]}.json"


def _dump_file() -> Path:
    return cache_dir() / "texts" / "enwiki-shortened.xml.bz2"


def articles_are_here() -> bool:
    """Whether the articles can be had without fetching anything."""
    if _dump_file().exists():
        return True
    try:
        _unpacked(_parsed_file().read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _parse_dump() -> list[Article]:
    dump = fetch_from_wheels([DUMP], DUMP_SHA256, _dump_file())
    with bz2.open(dump) as file:
        pages = ElementTree.parse(file).findall("{*}page")
    return [_article(page) for page in pages if page.find("{*}redirect") is None]


def _article(page: ElementTree.Element) -> Article:
    source = page.findtext("{*}revision/{*}text", "")
    return page.findtext("{*}title", ""), wikitext.paragraphs(source)
