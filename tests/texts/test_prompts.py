"""Prompts from templates."""

import pytest

from kvlens import InputError
from kvlens.texts.prompts import from_template, get_prompt


def test_templates():
    assert get_prompt("a {text} b").render("{x}") == "a {x} b"
    for bad in ("no mark", "{text} twice {text}"):
        with pytest.raises(InputError, match="exactly one"):
            from_template(bad)
    with pytest.raises(InputError, match="unknown prompt 'nope'"):
        get_prompt("nope")
