"""Limits: keywords in, one value out."""

import numpy as np
import pytest

from kvlens import InputError
from kvlens.texts.limits import Limits


def test_keywords_become_limits():
    assert Limits.of({}, 4096) == Limits(None, False, 4096)
    assert Limits.of({"max_length": 8, "strict": True, "batch_tokens": 5}) == Limits(8, True, 5)
    assert Limits.of({"batch_tokens": None}, 7).batch_tokens == 7


def test_the_context_bounds_the_length():
    assert Limits().tokens_for(100) == 100
    assert Limits(max_length=30).tokens_for(100) == 30
    assert Limits(max_length=300).tokens_for(100) == 100


@pytest.mark.parametrize("options", [{"max_length": 0}, {"batch_tokens": -1}])
def test_values_below_1_are_refused(options):
    with pytest.raises(InputError, match="must be at least 1"):
        Limits(**options)


@pytest.mark.parametrize("name", ["max_length", "batch_tokens"])
@pytest.mark.parametrize("value", [0, "12", 2.5, 12.0, True, float("nan"), np.float32(3), [3]])
def test_what_is_no_whole_number_is_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}` is "):
        Limits.of({name: value})


def test_numbers_of_numpy_become_plain_ones():
    limits = Limits(np.int64(8), np.bool_(True), np.int32(5))
    assert limits == Limits(8, True, 5)
    assert (type(limits.max_length), type(limits.strict)) == (int, bool)


def test_an_unknown_keyword_is_a_type_error_as_in_any_call():
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_len'"):
        Limits.of({"max_len": 3})
