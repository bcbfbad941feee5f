"""The text preparation of quoted prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlens.texts.preparation import prepared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "a."),
        ("a.", "a."),
        ("a?", "a."),
        ("a'", "a'"),
        ('a"', "a'"),
        ("a!", "a!."),
        ('He said "no"', "He said 'no'"),
        ('"why?"', "'why?'"),
        ("a? ", "a? ."),
        ("??", "?."),
        ("", "."),
    ],
)
def test_three_steps(text, expected):
    assert prepared(text) == expected


@given(st.text())
def test_laws(text):
    once = prepared(text)
    assert prepared(once) == once
    assert '"' not in once
    assert once[-1] in ".'"
    assert 0 <= len(once) - len(text) <= 1
