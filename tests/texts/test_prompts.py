"""Prompts from templates."""

import pytest

from kvlens import InputError
from kvlens.texts.prompts import Prompt, as_prompt, from_template, get_prompt


def test_templates():
    assert get_prompt("a {text} b").render("{x}") == "a {x} b"
    for bad in ("no mark", "{text} twice {text}"):
        with pytest.raises(InputError, match="exactly one"):
            from_template(bad)
    with pytest.raises(InputError, match="unknown prompt 'nope'"):
        get_prompt("nope")


@pytest.mark.parametrize("value", [5, None, b"raw", ["raw"], "{text}\ud800"])
def test_what_is_no_prompt_is_refused_by_its_parameter(value):
    with pytest.raises(InputError, match="`prompt` "):
        as_prompt(value)


def test_a_prompt_longer_than_any_context_is_refused():
    for template in ("x" * 10_000_000 + "{text}", "{text}" + "x" * 100_001):
        with pytest.raises(InputError, match="characters are more than 100,000"):
            as_prompt(template)
    assert len(as_prompt("x" * 100_000 + "{text}").prefix) == 100_000


def test_an_unknown_prompt_is_not_repeated_at_length():
    with pytest.raises(InputError, match="unknown prompt 'xxx") as error:
        as_prompt("x" * 10_000_000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "fields", [{"name": 5}, {"name": "a", "prefix": None}, {"name": "a", "suffix": "\ud800"}]
)
def test_a_prompt_of_what_is_no_text_names_the_field(fields):
    (field,) = list(fields)[-1:]
    with pytest.raises(InputError, match=f"`{field}` of a prompt"):
        Prompt(**fields)
