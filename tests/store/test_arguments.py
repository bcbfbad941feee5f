"""Numbers and texts of Python callers: taken as they are meant, or refused by name."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from kvlens import InputError
from kvlens.store.arguments import (
    choice_argument,
    flag_argument,
    list_argument,
    path_argument,
    real_number,
    text_argument,
    whole_number,
)


def test_numbers_of_numpy_become_pythons_own():
    assert whole_number("n", np.int64(3)) == 3
    assert type(whole_number("n", np.int64(3))) is int
    assert real_number("bias", np.float32(0.5)) == 0.5
    assert type(real_number("bias", np.float32(0.5))) is float
    assert real_number("bias", 2) == 2.0


@pytest.mark.parametrize("value", ["12", 2.5, 3.0, True, None, [1], np.float32(1)])
def test_what_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"`n` is .*, not a whole number"):
        whole_number("n", value)


@pytest.mark.parametrize("value", ["1", True, None, 1j, math.nan, math.inf, 10**400, [1.0]])
def test_what_is_no_finite_number_is_refused_by_name(value):
    with pytest.raises(InputError, match="`bias` is"):
        real_number("bias", value)


def test_ranges_and_texts():
    with pytest.raises(InputError, match="`n` is 0; it must be at least 1"):
        whole_number("n", 0, least=1)
    with pytest.raises(InputError, match="`share` is 2; it must be at most 1"):
        whole_number("share", 2, most=1)
    assert text_argument("prompt", "a") == "a"
    with pytest.raises(InputError, match=r"`prompt` is 5 \(int\), not a text"):
        text_argument("prompt", 5)
    with pytest.raises(InputError, match=r"^.{,100}$"):
        whole_number("n", "x" * 10**6)
    with pytest.raises(InputError, match="`n` is a number of thousands of digits"):
        real_number("n", 10**5000)


def test_paths(tmp_path):
    assert path_argument("path", "a/b") == Path("a/b")
    assert path_argument("path", tmp_path) == tmp_path
    for value in (5, None, b"a", os.fsencode(tmp_path), ["a"], open):
        with pytest.raises(InputError, match=r"`path` is .*, not a path"):
            path_argument("path", value)


def test_flags():
    assert [flag_argument("strict", value) for value in (True, np.bool_(False))] == [True, False]
    for value in (1, 0, "yes", None, np.array([True])):
        with pytest.raises(InputError, match=r"`strict` is .*, not True or False"):
            flag_argument("strict", value)


def test_choices():
    assert choice_argument("side", "left", ("left", "right")) == "left"
    for value in ("up", 5, None, ["left"]):
        with pytest.raises(InputError, match=r"`side` is .*; it must be one of left, right"):
            choice_argument("side", value, ("left", "right"))


def test_lists():
    assert list_argument("keep", np.array([1, 2]), "numbers") == [1, 2]
    assert list_argument("keep", (x for x in "ab"), "names") == ["a", "b"]
    for value in ("kv", b"kv", {"k": 1}, {"k"}, 5, None):
        with pytest.raises(InputError, match=r"`keep` is .*, not a list of names"):
            list_argument("keep", value, "names")
