"""Texts: their hash, and what is no list of texts."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from table_files import one_line

from kvlens.store.errors import InputError
from kvlens.texts.texts import Texts, as_texts


def test_texts_hash_is_of_the_items_in_order():
    texts = Texts(("a", "é"), "somewhere")
    assert texts.sha256 == hashlib.sha256("a\0é\0".encode()).hexdigest()
    assert texts.sha256 == Texts(("a", "é"), "elsewhere", ids=("1", "2")).sha256
    assert len({texts.sha256, Texts(("é", "a"), "x").sha256, Texts(("aé",), "x").sha256}) == 3
    assert (len(texts), texts.n, list(texts)) == (2, 2, ["a", "é"])
    info = texts.info()
    assert info.model_dump() == {"source": "somewhere", "n": 2, "sha256": texts.sha256}
    with pytest.raises(ValidationError, match="frozen"):
        info.__setattr__("n", 3)


def test_as_texts():
    texts = as_texts(["a", "", "b"])
    assert texts.items == ("a", "", "b")
    assert as_texts(texts) is texts
    assert as_texts(s for s in "ab").items == ("a", "b")


@pytest.mark.parametrize(
    ("given_texts", "says"),
    [
        ("one text", r"`texts` is 'one text' \(str\), not a list of strings"),
        (b"one text", r"`texts` is b'one text' \(bytes\), not"),
        ({"id": "text"}, r"`texts` is .* \(dict\), not"),
        ({"a", "b"}, r"`texts` is .* \(set\), not"),
        (None, r"`texts` is None \(NoneType\), not"),
        (3, r"`texts` is 3 \(int\), not"),
        ([], r"`texts` is empty"),
        (Texts((), "nowhere"), r"`texts` is empty"),
        (["a", None], r"`texts`\[1\] is None \(NoneType\), not a string"),
        (["a", "b", 1.5], r"`texts`\[2\] is 1.5 \(float\), not a string"),
        ([b"x" * 500], r"`texts`\[0\] is b'x.{0,60} \(bytes\), not a string"),
        ([10**5000], r"`texts`\[0\] is a number of thousands of digits \(int\), not a string"),
        (["\ud800"], r"`texts`\[0\] has half of a surrogate pair"),
        (pd.DataFrame({"text": ["a"]}), r"`texts` is a DataFrame: give one column of it"),
        (pd.Series(["a", float("nan")]), r"`texts`\[1\] is nan \(float\), not a string"),
        (pd.Series([1, 2]), r"`texts`\[0\] is 1 \(int\), not a string"),
        (np.array([["a", "b"]]), r"`texts`\[0\] is array.* \(ndarray\), not a string"),
    ],
)
def test_as_texts_refuses(given_texts, says):
    with pytest.raises(InputError, match=says) as error:
        as_texts(given_texts)
    one_line(error)


@pytest.mark.parametrize("column", [np.array(["a", "b"]), pd.Series(["a", "b"]), ("a", "b")])
def test_a_column_of_texts_becomes_plain_strings(column):
    texts = as_texts(column)
    assert texts.items == ("a", "b")
    assert {type(item) for item in texts.items} == {str}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"items": "abc"}, "`items` is 'abc' .str., not a list of strings"),
        ({"items": ("a", 5)}, r"`items`\[1\] is 5"),
        ({"items": ("a",), "ids": (1,)}, r"`ids`\[0\] is 1"),
        ({"items": ("a",), "ids": ("x", "y")}, "2 `ids` for 1 texts: one each"),
        ({"items": ("a",), "source": None}, "`source` is None"),
    ],
)
def test_texts_hold_nothing_but_texts(fields, says):
    with pytest.raises(InputError, match=says) as error:
        Texts(**{"source": "somewhere", **fields})
    one_line(error)
