"""Wikipedia: calibration passages, cut from the articles that gensim's wheel ships, and the articles."""

from __future__ import annotations

import bz2
import importlib.metadata
import json
import math
import re
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir, sha256_texts, write_text
from kvlens.store.wheels import fetch_from_wheels
from kvlens.texts.texts import Texts

# Printed wherever the passages are; goes into `source`.
ATTRIBUTION = "English Wikipedia contributors, dump of May 2016 (excerpt shipped by gensim 4.4.0), CC BY-SA 3.0"
# With 10 from each article there would be 957 passages, since some articles are very short.
MIN_WORDS, MAX_WORDS, PER_ARTICLE = 10, 200, 11

_WHEEL_FILE = (
    "gensim==4.4.0",
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
)
_SHA256 = "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d"


def calibration_texts(n: int = 1000) -> Texts:
    """`n` distinct passages of Wikipedia prose, each of 10 to 200 words and of whole sentences.

    Deterministic: the first n passages are the same whatever n is. Round by round, each article gives one
    passage, so that any first n are mixed in article and in length (log-uniform, as far as paragraphs are
    long enough). No article gives more than 10 passages up to n = 957, nor more than 11 at all: 16 of the 106
    give fewer, four of them none. ids: ``title #round``. Fetched at first use, then cached.
    Raises InputError when n is out of range or the fetch fails.
    """
    passages = _passages(_articles())
    if not 1 <= n <= len(passages):
        raise InputError(f"{n} calibration texts asked for; there are 1 to {len(passages)}")
    ids, items = zip(*passages[:n], strict=True)
    return Texts(items, f"passages from {ATTRIBUTION}", ids)


def articles() -> list[tuple[str, str]]:
    """(title, text) of each Wikipedia article: its whole sentences, without lists, tables, notes, headings
    and formulas; a blank line between paragraphs. Raises InputError when the fetch fails."""
    texts = (
        (title, (" ".join(filter(None, p)) for p in paragraphs))
        for title, paragraphs in _articles()
    )
    return [(title, "\n\n".join(filter(None, paragraphs))) for title, paragraphs in texts]


# A paragraph is its sentences; None stands where a sentence was taken out.
_Paragraph = list[str | None]


def _articles() -> list[tuple[str, list[_Paragraph]]]:
    # Parsing takes about three seconds, so the result is kept, under a name made of all that it depends on.
    parsers = [importlib.metadata.version(name) for name in ("mwparserfromhell", "sentencex")]
    key = sha256_texts([_SHA256, Path(__file__).read_text(encoding="utf-8"), *parsers])
    cached = cache_dir() / "texts" / f"articles-{key[:16]}.json"
    if not cached.exists():
        dump = fetch_from_wheels(
            [_WHEEL_FILE], _SHA256, cache_dir() / "texts" / "enwiki-shortened.xml.bz2"
        )
        with bz2.open(dump) as file:
            pages = ElementTree.parse(file).findall("{*}page")
        found = [
            (page.findtext("{*}title"), _paragraphs(page.findtext("{*}revision/{*}text", "")))
            for page in pages
            if page.find("{*}redirect") is None
        ]
        write_text(cached, json.dumps(found))
    return json.loads(cached.read_text(encoding="utf-8"))


_APPENDIX = re.compile(
    r"^==\s*(?:see also|(?:foot)?notes|(?:notes and )?references|citations|works cited|sources|bibliography|"
    r"further reading|external links)\s*==\s*$",
    re.I | re.M,
)
_HOLE = "\ufffc"  # what has no form in prose; a sentence with one is taken out
_BREAK = "\x00"  # its line is no prose: a heading, a list item, an indented line

# What a template reads as: a fixed text, or its n-th argument. All others are holes.
_TEMPLATES: dict[str, str | int] = {
    **dict.fromkeys(
        ("citation needed", "cn", "fact", "sfn", "sfnp", "rp", "refn", "efn", "page needed"), ""
    ),
    **{
        "'s": "'s",
        "nbsp": " ",
        "spaces": " ",
        "ndash": "–",
        "snd": " – ",
        "spnd": " – ",
        "mdash": "—",
    },
    **dict.fromkeys(("nowrap", "small", "nihongo", "linktext", "vanchor", "angbr"), 0),
    **{"lang": -1, "transl": -1},
}
_INLINE = {"b", "i", "u", "s", "small", "big", "span", "div", "center", "sub", "nowiki"}
_BLOCKS = {
    "ref": "",
    "references": "",
    "br": " ",
    "hr": "\n\n",
    "li": _BREAK,
    "dd": _BREAK,
    "dt": _BREAK,
}


def _prose(code: Any) -> str:
    """Wikitext (mwparserfromhell's Wikicode, or None) as text with _HOLE and _BREAK marks."""
    return "".join(map(_node, code.nodes)) if code is not None else ""


def _node(node: Any) -> str:
    kind = type(node).__name__
    if kind == "Text":
        return node.value
    if kind == "HTMLEntity":
        return node.normalize()
    if kind == "Wikilink":
        # A namespace or another language in front: a picture or a category, nothing to read.
        if re.match(r"\s*(file|image|category|media|[a-z]{2}|be-x-old):", str(node.title), re.I):
            return ""
        return _prose(node.text or node.title).lstrip(":")
    if kind == "ExternalLink" and node.title:
        return _prose(node.title)
    if kind == "Template":
        shown = _TEMPLATES.get(str(node.name).strip().lower(), _HOLE)
        values = [param.value for param in node.params if not param.showkey] or [None]
        return shown if isinstance(shown, str) else _prose(values[shown])
    if kind == "Tag":
        tag = str(node.tag).strip().lower()
        if tag in _INLINE or (tag == "sup" and str(node.contents).isalpha()):
            return _prose(node.contents)
        return (
            f"\n\n{_prose(node.contents)}\n\n" if tag == "blockquote" else _BLOCKS.get(tag, _HOLE)
        )
    return {"Comment": "", "Heading": _BREAK}.get(kind, _HOLE)


def _paragraphs(wikitext: str) -> list[_Paragraph]:
    import mwparserfromhell

    text = _prose(mwparserfromhell.parse(_APPENDIX.split(wikitext, maxsplit=1)[0]))
    bracketed = re.compile(rf" ?\(([^()]*{_HOLE}[^()]*|[\s,;:]*)\)")
    while text != (text := bracketed.sub("", text)):
        pass
    text = re.sub(rf"^.*{_BREAK}.*$|^[\s{_HOLE}]+$", "", text, flags=re.M)
    return [
        _sentences(" ".join(block.split())) for block in re.split(r"\n\s*\n", text) if block.strip()
    ]


_ENDS_EARLY = re.compile(
    r"\b[A-Z][a-z]{0,2}\.$|\.\.\.$|^\W*\w{1,2}\W*$"
)  # an initial, a title, a list number
_WHOLE = re.compile(r"[\"“'‘(\[]?[A-Z].*[.!?][\"”'’)\]]*")
# Left-over markup, its traces (a space before a comma), or a label at the start.
_DEBRIS = re.compile(
    rf"[{_HOLE}{{}}|<>=*#_\\]|''|\[\[|\]\]|https?:|www\.|[a-z][.?!][A-Z]|\(\s|\s[,.;)]|\.\.\s|"
    r"^\W*\w+(\W+\w+){0,3}:"
)


def _sentences(paragraph: str) -> _Paragraph:
    import sentencex

    merged: list[str] = []
    for piece in sentencex.segment("en", paragraph):
        # A cut too few does no harm, a cut too many does.
        if merged and (_ENDS_EARLY.search(merged[-1].rstrip()) or not re.match(r"\W*[A-Z]", piece)):
            merged[-1] += piece
        else:
            merged.append(piece)
    return [s if _is_whole(s) else None for s in map(str.strip, merged)]


def _is_whole(s: str) -> bool:
    closed = all(s.count(opening) == s.count(closing) for opening, closing in ("()", "[]", "“”"))
    return bool(_WHOLE.fullmatch(s)) and not _DEBRIS.search(s) and closed and s.count('"') % 2 == 0


def _golden(i: int) -> float:
    """The i-th point of a sequence whose every prefix covers [0, 1) evenly."""
    return i * (math.sqrt(5) - 1) / 2 % 1


def _cut(paragraphs: list[_Paragraph], targets: list[float]) -> dict[int, str]:
    """Passages of one article, keyed by the target (in words) that each is for; none crosses a gap.

    The longest is taken first. Among those within 10 % of the target, the r-th is taken near the place
    _golden(r) of the article.
    """
    groups = (list(group) for paragraph in paragraphs for _, group in groupby(paragraph, key=bool))
    runs = [[s for s in group if s] for group in groups]
    found: dict[int, str] = {}
    for r in sorted(range(len(targets)), key=lambda r: -targets[r]):
        choices = [
            (int(10 * off), abs(i / len(runs) - _golden(r)), off, i, end)
            for i, run in enumerate(runs)
            for end, words in enumerate(accumulate(len(s.split()) for s in run), 1)
            if MIN_WORDS <= words <= MAX_WORDS
            for off in [abs(math.log(words / targets[r]))]
        ]
        if choices:
            *_, i, end = min(choices)
            found[r], runs[i] = " ".join(runs[i][:end]), runs[i][end:]
    return found


def _passages(sources: list[tuple[str, list[_Paragraph]]]) -> list[tuple[str, str]]:
    """All (id, passage), in rounds over the articles."""
    cuts: list[list[str]] = []
    for a, (_, paragraphs) in enumerate(sources):
        places = [_golden(r * len(sources) + a) for r in range(PER_ARTICLE)]
        targets = [MIN_WORDS * (MAX_WORDS / MIN_WORDS) ** place for place in places]
        best: dict[int, str] = {}
        for longest in (
            MAX_WORDS,
            100,
            50,
            25,
        ):  # a short article has to make do with short passages
            if len(best) < PER_ARTICLE:
                best = max(best, _cut(paragraphs, [min(t, longest) for t in targets]), key=len)
        cuts.append([best[r] for r in sorted(best)])
    found: dict[str, str] = {}
    for r in range(PER_ARTICLE):
        for (title, _), cut in zip(sources, cuts, strict=True):
            if r < len(cut):
                found.setdefault(cut[r], f"{title} #{r + 1}")
    return [(name, passage) for passage, name in found.items()]
