"""Wikitext: the source of a Wikipedia article becomes paragraphs of whole sentences.

What has no form in prose (tables, formulas, unknown templates) leaves a gap where its sentence
stood, so that nobody joins what the article did not. It knows no file and no dump.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Paragraph = list[str | None]
"""The sentences of a paragraph; None stands where a sentence was taken out."""

# Private marks inside text that is not cleaned yet.
HOLE = "\ufffc"  # what has no form in prose; a sentence with one is taken out
BREAK = "\x00"  # its line is no prose: a heading, a list item, an indented line

APPENDIX = re.compile(
    r"^==\s*(?:see also|(?:foot)?notes|(?:notes and )?references|citations|works cited|sources|"
    r"bibliography|further reading|external links)\s*==\s*$",
    re.I | re.M,
)

# A namespace or another language in front: a picture or a category, nothing to read.
UNREAD_LINK = re.compile(r"\s*(file|image|category|media|[a-z]{2}|be-x-old):", re.I)

# What a template reads as: a fixed text, or its n-th argument. All others are holes.
TEMPLATES: dict[str, str | int] = {
    "citation needed": "",
    "cn": "",
    "efn": "",
    "fact": "",
    "page needed": "",
    "refn": "",
    "rp": "",
    "sfn": "",
    "sfnp": "",
    "'s": "'s",
    "mdash": "—",
    "nbsp": " ",
    "ndash": "–",
    "snd": " – ",
    "spaces": " ",
    "spnd": " – ",
    "angbr": 0,
    "linktext": 0,
    "nihongo": 0,
    "nowrap": 0,
    "small": 0,
    "vanchor": 0,
    "lang": -1,
    "transl": -1,
}

INLINE_TAGS = {"b", "i", "u", "s", "small", "big", "span", "div", "center", "sub", "nowiki"}
BLOCK_TAGS = {
    "ref": "",
    "references": "",
    "br": " ",
    "hr": "\n\n",
    "li": BREAK,
    "dd": BREAK,
    "dt": BREAK,
}

BRACKETED = re.compile(rf" ?\(([^()]*{HOLE}[^()]*|[\s,;:]*)\)")  # around a hole, or around nothing
UNREAD_LINE = re.compile(rf"^.*{BREAK}.*$|^[\s{HOLE}]+$", re.M)
BLANK_LINE = re.compile(r"\n\s*\n")

# An initial, a title, an ellipsis, a list number.
ENDS_EARLY = re.compile(r"\b[A-Z][a-z]{0,2}\.$|\.\.\.$|^\W*\w{1,2}\W*$")
BEGINS = re.compile(r"\W*[A-Z]")
WHOLE = re.compile(r"[\"“'‘(\[]?[A-Z].*[.!?][\"”'’)\]]*")
# Left-over markup, its traces (a space before a comma), or a label at the start.
DEBRIS = re.compile(
    rf"[{HOLE}{{}}|<>=*#_\\]|''|\[\[|\]\]|https?:|www\.|[a-z][.?!][A-Z]|\(\s|\s[,.;)]|\.\.\s|"
    r"^\W*\w+(\W+\w+){0,3}:"
)
BRACKETS = (("(", ")"), ("[", "]"), ("“", "”"))


def paragraphs(wikitext: str) -> list[Paragraph]:
    """The prose of an article, up to its appendices.

    Args:
        wikitext: the source of the article.

    Returns:
        Its paragraphs of whole sentences, without lists, tables, notes, headings and formulas.
    """
    import mwparserfromhell

    body = APPENDIX.split(wikitext, maxsplit=1)[0]
    text = without_brackets(prose(mwparserfromhell.parse(body)))
    blocks = BLANK_LINE.split(UNREAD_LINE.sub("", text))
    return [sentences(" ".join(block.split())) for block in blocks if block.strip()]


def without_brackets(text: str) -> str:
    """`text` without what stands in brackets with a hole, from the innermost outwards."""
    before = ""
    while text != before:
        before = text
        text = BRACKETED.sub("", text)
    return text


def prose(code: Any) -> str:
    """Parsed wikitext as text with marks.

    Args:
        code: mwparserfromhell's Wikicode, or None.

    Returns:
        The text, with `HOLE` and `BREAK` where something is no prose.
    """
    if code is None:
        return ""
    return "".join(node_text(node) for node in code.nodes)


def node_text(node: Any) -> str:
    """One node of mwparserfromhell's tree as text with marks."""
    read = NODES.get(type(node).__name__)
    return HOLE if read is None else read(node)


def link_text(node: Any) -> str:
    """What a link inside Wikipedia shows."""
    if UNREAD_LINK.match(str(node.title)):
        return ""
    return prose(node.text or node.title).lstrip(":")


def external_link_text(node: Any) -> str:
    """What a link to another site shows; a bare address is a hole."""
    return prose(node.title) if node.title else HOLE


def template_text(node: Any) -> str:
    """What a template reads as; see `TEMPLATES`."""
    shown = TEMPLATES.get(str(node.name).strip().lower(), HOLE)
    if isinstance(shown, str):
        return shown
    arguments = [parameter.value for parameter in node.params if not parameter.showkey]
    return prose(arguments[shown]) if arguments else ""


def tag_text(node: Any) -> str:
    """What an HTML tag reads as; a superscript of digits is a hole, since it is a power."""
    tag = str(node.tag).strip().lower()
    is_ordinal = tag == "sup" and str(node.contents).isalpha()
    if tag in INLINE_TAGS or is_ordinal:
        return prose(node.contents)
    if tag == "blockquote":
        return f"\n\n{prose(node.contents)}\n\n"
    return BLOCK_TAGS.get(tag, HOLE)


# By name, since mwparserfromhell is imported only where an article is parsed.
NODES: dict[str, Callable[[Any], str]] = {
    "Text": lambda node: node.value,
    "HTMLEntity": lambda node: node.normalize(),
    "Wikilink": link_text,
    "ExternalLink": external_link_text,
    "Template": template_text,
    "Tag": tag_text,
    "Comment": lambda node: "",
    "Heading": lambda node: BREAK,
}


def sentences(paragraph: str) -> Paragraph:
    """The sentences of a paragraph, None for those that are not whole or not clean."""
    import sentencex

    merged: list[str] = []
    for piece in sentencex.segment("en", paragraph):
        # A cut too few does no harm, a cut too many does.
        if merged and is_continued(merged[-1], piece):
            merged[-1] += piece
        else:
            merged.append(piece)
    stripped = [sentence.strip() for sentence in merged]
    return [sentence if is_whole(sentence) else None for sentence in stripped]


def is_continued(before: str, piece: str) -> bool:
    """Whether `piece` goes on with the sentence `before`."""
    return bool(ENDS_EARLY.search(before.rstrip())) or not BEGINS.match(piece)


def is_whole(sentence: str) -> bool:
    """Whether a sentence begins and ends as one, and nothing is left of markup."""
    if not WHOLE.fullmatch(sentence) or DEBRIS.search(sentence):
        return False
    if sentence.count('"') % 2:
        return False
    return all(sentence.count(opening) == sentence.count(closing) for opening, closing in BRACKETS)
