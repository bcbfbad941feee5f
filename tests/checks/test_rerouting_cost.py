"""What re-routing costs beside the bare pass: rows by length and share of layers."""

import re

import pytest
from zoo import tiny

from kvlens import InputError
from kvlens.checks.rerouting_cost import by_length
from kvlens.texts.limits import Limits
from kvlens.texts.texts import as_texts

WORDS = as_texts([f"{word} {n}" for word in ("cats", "rivers", "stones") for n in range(9)])


def test_a_row_a_length_and_share_of_layers():
    rows = by_length(tiny("llama"), WORDS, (160, 240), Limits(), 1)
    assert [row["texts"][:12] for row in rows[::3]] == ["4 of 160 tok", "4 of 240 tok"]
    layers = [re.search(r"\d+", row["measured"])[0] for row in rows[:3]]
    assert layers == ["0", "1", "4"]
    for row in rows:
        assert re.fullmatch(r"-|\d+\.\d\d", row["memory"])
        assert all(int(number) >= 0 for number in row["MiB"].split(" / "))


def test_more_tokens_than_the_model_takes_are_refused():
    with pytest.raises(InputError, match="tokens at most"):
        by_length(tiny("llama"), WORDS, (10**7,), Limits(), 1)
