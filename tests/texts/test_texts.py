"""Texts: their hash, and what is no list of texts."""

import hashlib

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
        ("one text", r"must be a list of strings, not one str"),
        (b"one text", r"not one bytes"),
        ({"id": "text"}, r"not one dict"),
        ({"a", "b"}, r"not one set"),
        (None, r"not one NoneType"),
        (3, r"not one int"),
        ([], r"empty"),
        (["a", None], r"texts\[1\] is None \(NoneType\), not a string"),
        (["a", "b", 1.5], r"texts\[2\] is 1.5 \(float\), not a string"),
        ([b"x" * 500], r"texts\[0\] is b'x.{0,60} \(bytes\), not a string"),
        (["\ud800"], r"texts\[0\] has half of a surrogate pair"),
    ],
)
def test_as_texts_refuses(given_texts, says):
    with pytest.raises(InputError, match=says) as error:
        as_texts(given_texts)
    one_line(error)
