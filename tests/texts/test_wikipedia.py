"""The corpus itself: its passages are pinned, since published numbers depend on them."""

import bz2
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from table_files import one_line

from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir, sha256_texts
from kvlens.texts import wikipedia
from kvlens.texts.wikipedia import articles, calibration_texts

DUMP = "enwiki-shortened.xml.bz2"
SHA256_1000 = "f54f4e7f53778401d8e393ce9cf7a5b8a3332074a8f2ba328962f2254bc0722a"
SHA256_1047 = "3a70ee0e382f4ebb9ef70f89f4a30b3b07287f8fe6dda3fde9d735933b31a60a"


@pytest.fixture(scope="module")
def many():
    return calibration_texts(3000)


@pytest.fixture(scope="module")
def passages():
    return calibration_texts(1000)


@pytest.mark.real
def test_calibration_texts_are_pinned(passages):
    assert passages.n == 1000 == len(set(passages.items)) == len(set(passages.ids))
    assert passages.sha256 == SHA256_1000
    assert "Wikipedia" in passages.source
    assert "CC BY-SA" in passages.source


@pytest.mark.real
def test_any_first_n_is_mixed(passages):
    for n in (1, 7, 100, 957):
        part = calibration_texts(n)
        assert part.items == passages.items[:n]
        assert part.ids == passages.ids[:n]
    titles = [name.rpartition(" #")[0] for name in passages.ids]
    assert len(set(titles)) == 102  # four disambiguation pages and bare lists have no prose
    assert max(Counter(titles).values()) == 11
    assert max(Counter(titles[:957]).values()) == 10
    assert len(set(titles[:100])) == 100
    for part in (passages.items[:100], passages.items[500:600], passages.items):
        logs = sorted(math.log(len(text.split())) for text in part)
        assert math.log(10) <= logs[0]
        assert logs[-1] <= math.log(200)
        # The largest distance to the distribution function of the log-uniform law itself.
        law = [(x - math.log(10)) / math.log(20) for x in logs]
        assert max(abs(u - (i + 0.5) / len(law)) for i, u in enumerate(law)) < 0.15
        assert sum(x > math.log(100) for x in logs) > 0.1 * len(logs)


@pytest.mark.real
def test_more_passages_leave_the_first_as_they_were(many):
    assert sha256_texts(many.items[:1047]) == SHA256_1047
    assert many.n == len(set(many.items)) == len(set(many.ids))
    counts = Counter(name.rpartition(" #")[0] for name in many.ids)
    assert max(counts.values()) > 11
    assert all(10 <= len(text.split()) <= 200 for text in many)


@pytest.mark.real
def test_passages_of_an_article_do_not_overlap(many):
    texts = dict(articles())
    places = defaultdict(list)
    for name, text in zip(many.ids, many.items, strict=True):
        title = name.rpartition(" #")[0]
        start = texts[title].find(text)
        if texts[title].count(text) == 1:
            places[title].append((start, start + len(text)))
    for spans in places.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(spans)))


@pytest.mark.real
def test_calibration_texts_are_clean_prose(many):
    for text in many:
        assert not re.search(
            r"\[\[|\]\]|\{|\}|<|>|''|\||&\w+;|https?:|\n|\t|  |\ufffc|\x00| [,.;]|\( ?\)", text
        ), text
        assert re.match(r"[\"“'‘(\[]?[A-Z]", text), text
        assert re.search(r"[.!?][\"”'’)\]]*$", text), text
        assert text.count("(") == text.count(")"), text


@pytest.mark.real
def test_passages_stand_in_their_articles_and_those_in_the_dump(passages):
    texts = dict(articles())
    with bz2.open(cache_dir() / "texts" / DUMP) as file:
        dump = {
            p.findtext("{*}title"): p.findtext(".//{*}text", "")
            for p in ElementTree.parse(file).iterfind("{*}page")
        }
    assert len(texts) == 106
    for name, text in zip(passages.ids, passages.items, strict=True):
        assert text in texts[name.rpartition(" #")[0]]
    for title, text in texts.items():
        unlinked = re.sub(r"\]\]|''+", "", dump[title])
        assert set(re.findall(r"[a-z]{4,}", text)) <= set(re.findall(r"[a-z]{4,}", unlinked)), title
    assert sum(len(text.split()) for text in texts.values()) > 350_000


@pytest.mark.real
def test_calibration_texts_out_of_range():
    for n in (0, -1, 5811):
        with pytest.raises(
            InputError, match=rf"`n` is {n}; there are 1 to 5810 calibration texts"
        ) as error:
            calibration_texts(n)
        one_line(error)


@pytest.mark.real
@pytest.mark.parametrize("damage", ["a letter", "cut", "empty", "a folder's worth", "not UTF-8"])
def test_damaged_articles_are_parsed_again(tmp_path, monkeypatch, passages, damage):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / DUMP).symlink_to(cache_dir() / "texts" / DUMP)
    shutil.copy(articles_file(cache_dir()), tmp_path / "texts")
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path))
    file = articles_file(tmp_path)
    good = file.read_bytes()
    middle = len(good) // 2
    content = {
        "a letter": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "cut": good[:-9],
        "empty": b"",
        "a folder's worth": b"[]",
        "not UTF-8": b"\xff" * 99,
    }
    file.write_bytes(content[damage])
    monkeypatch.setattr(wikipedia, "_parse_dump", lambda: wikipedia._unpacked(good))
    with pytest.warns(UserWarning, match=r"articles-\w+\.json is damaged: the articles are parsed"):
        assert calibration_texts(1000).sha256 == passages.sha256
    assert file.read_bytes() == good


def articles_file(cache):
    """The newest: a cache holds those of earlier parsers too."""
    return max((cache / "texts").glob("articles-*.json"), key=os.path.getmtime)


@pytest.mark.real
def test_calibration_texts_depend_on_no_cache_hash_seed_or_locale(tmp_path, passages):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / DUMP).symlink_to(cache_dir() / "texts" / DUMP)
    environment = {
        **os.environ,
        "KVLENS_CACHE": str(tmp_path),
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
    }
    code = (
        "from kvlens.texts.wikipedia import calibration_texts as passages;"
        "print(passages(1000).sha256); print(passages(1000).sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [passages.sha256] * 2
