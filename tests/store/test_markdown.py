"""Markdown: whatever a name holds, a renderer that allows HTML and tables shows it as text."""

import re
from html import unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvlens.store.errors import printable
from kvlens.store.markdown import markdown_code, markdown_text

MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
HOSTILE = st.text(st.sampled_from("<>&|`*\\[]()!:/ \n\tab\x1b_#-"), max_size=30)


def rendered(markdown):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


def cells(text):
    table = f"| head | other |\n| --- | --- |\n| x{markdown_text(text)}x | end |\n"
    return re.findall(r"<t[dh]>(.*?)</t[dh]>", rendered(table), re.S)


@given(HOSTILE)
@example("<script>alert(1)</script>")
@example("a|b")
@example("`<img src=x onerror=alert(1)>`")
@example("[x](javascript:alert(1)) ![y](z) [a][b]")
@example("two\n\n<script>lines")
@example("\\|")
def test_text_in_a_table_is_shown_as_it_is(text):
    head, other, cell, end = cells(text)
    assert (head, other, end) == ("head", "other", "end")
    assert unescape(cell) == f"x{printable(text)}x"


@given(HOSTILE)
@example("kvlens profile 'a\n\n<script>'")
@example("`")
@example("a``b`")
def test_code_is_shown_as_it_is(text):
    (code,) = re.findall(r"^<p><code>(.*)</code></p>\n$", rendered(markdown_code(f"x{text}x")))
    assert unescape(code) == f"x{printable(text)}x"
