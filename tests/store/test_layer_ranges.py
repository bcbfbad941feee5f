"""Layer ranges: the short form is read back; words for people."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlens import InputError
from kvlens.store.layer_ranges import parse_layers, phrase, runs, short


@given(st.sets(st.integers(0, 200)))
def test_the_short_form_is_read_back(layers):
    assert parse_layers(short(layers)) == tuple(sorted(layers))


@given(st.sets(st.integers(0, 60)))
def test_runs_cover_the_layers_and_do_not_touch(layers):
    found = runs(layers)
    covered = [layer for first, last in found for layer in range(first, last + 1)]
    assert covered == sorted(layers)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(found))


def test_words():
    assert phrase((7, 8, 9, 12)) == "layers 7-9, 12"
    assert phrase((3,)) == "layer 3"
    assert phrase(()) == "no layers"
    assert phrase((3, 3, 4)) == "layers 3-4"
    assert parse_layers("7+9") == parse_layers("7, 9") == (7, 9)
    assert parse_layers("none") == ()


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-2-3", "1,,2", "-1", "1.5", "9" * 30])
def test_other_words_are_refused(text):
    with pytest.raises(InputError, match="not a list of layers"):
        parse_layers(text)
