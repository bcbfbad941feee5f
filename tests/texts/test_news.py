"""The second genre of calibration texts: pinned, of whole sentences, round by round."""

import pytest

from kvlens.store.errors import InputError
from kvlens.texts.news import news_texts


@pytest.fixture(scope="module")
def many():
    return news_texts(1500)


def test_passages_are_pinned(many):
    assert many.n == len(set(many.items)) == 1500
    assert many.ids[0] == "news 1 #1"
    first = news_texts(40)
    assert first.items == many.items[:40]
    assert first.ids == many.ids[:40]
    assert "Lee" in first.source


def test_passages_are_whole_sentences_of_their_item(many):
    lengths = [len(text.split()) for text in many.items]
    assert min(lengths) >= 10
    assert max(lengths) <= 200
    ends = sum(text.rstrip("\"')")[-1] in ".?!" for text in many.items)
    assert ends > 0.98 * many.n
    assert len({name.partition(" #")[0] for name in many.ids}) > 290


def test_they_share_nothing_with_the_encyclopaedia(many):
    from kvlens.texts.wikipedia import calibration_texts

    assert not set(many.items) & set(calibration_texts(1000).items)


def test_too_many_are_refused(many):
    with pytest.raises(InputError, match=r"there are 1 to \d+ news texts"):
        news_texts(100_000)
    with pytest.raises(InputError, match="`n` is 0"):
        news_texts(0)
