"""Texts: reading the user's files, and the passages and articles cut from Wikipedia."""

import bz2
import csv
import gzip
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir
from kvlens.texts.pairs import read_pairs
from kvlens.texts.passages import cut
from kvlens.texts.readers import read_texts
from kvlens.texts.rows import read_rows
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.wikipedia import articles, calibration_texts
from kvlens.texts.wikitext import paragraphs

SHA256_1000 = "f54f4e7f53778401d8e393ce9cf7a5b8a3332074a8f2ba328962f2254bc0722a"
NASTY = [
    "plain",
    'a "quoted", comma',
    "two\nlines",
    "crlf\r\nhere",
    "tab\there",
    "é 漢字 🙂",
    "a\u2028b\x85c",
    " sp ",
]


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def write_csv(path, rows, delimiter=",", opener=open):
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def write_jsonl(path, items, ascii_only=False):
    lines = [
        json.dumps({"id": i, "text": item}, ensure_ascii=ascii_only) for i, item in enumerate(items)
    ]
    path.write_bytes("\n".join(lines).encode())


def write_parquet(path, items, kind=None):
    pq.write_table(pa.table({"id": range(len(items)), "text": pa.array(items, kind)}), path)


# Texts


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


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round-trip")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=8
    )
)
@example(NASTY)
@example(["\ufeffbyte order mark", "\0", "=1+1", "'", '"', '""', "\\", ",", "NA", "null", "\t x"])
def test_what_other_programs_write_is_read_back(folder, items):
    write_jsonl(folder / "a.jsonl", items)
    write_jsonl(folder / "ascii.jsonl", items, ascii_only=True)
    rows = [("id", "text"), *enumerate(items)]
    write_csv(folder / "a.csv", rows)
    write_csv(folder / "a.csv.gz", rows, opener=gzip.open)
    write_csv(folder / "a.tsv", rows, "\t")
    write_parquet(folder / "a.parquet", items)
    write_parquet(folder / "large.parquet", items, pa.dictionary(pa.int32(), pa.large_string()))
    for path in folder.iterdir():
        texts = read_texts(path)
        assert texts.items == tuple(items), path
        assert texts.source == f"{path.name}, column text"


def test_txt_is_one_text_per_line_without_blank_lines(tmp_path):
    path = tmp_path / "a.TXT"
    path.write_bytes("\ufefffirst\r\n\n  \n second é\nwith \x85 and \u2028 inside\nlast".encode())
    texts = read_texts(path)
    assert texts.items == ("first", " second é", "with \x85 and \u2028 inside", "last")
    assert texts.source == "a.TXT"
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_texts(str(packed)).items == texts.items


def test_byte_order_mark_before_a_header_or_an_object(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf\ntext,n\none,1\n\ntwo,2\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\n\n{"text": "two"}\n')
    assert (
        read_texts(tmp_path / "a.csv").items
        == read_texts(tmp_path / "a.jsonl").items
        == ("one", "two")
    )


def test_column_and_long_fields(tmp_path):
    long = "word " * 60_000
    write_csv(tmp_path / "a.csv", [("text", "body"), ("no", long)])
    assert read_texts(tmp_path / "a.csv", column="body").items == (long,)
    (tmp_path / "a.jsonl").write_text('{"body": "x", "text": 1}')
    assert read_texts(tmp_path / "a.jsonl", column="body").items == ("x",)
    pq.write_table(pa.table({"text": [1], "a.b": ["y"]}), tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet", column="a.b").items == ("y",)


def test_parquet_of_many_batches(tmp_path):
    items = [f"text {i}" for i in range(5000)]
    pq.write_table(pa.table({"text": items}), tmp_path / "a.parquet", row_group_size=700)
    assert read_texts(tmp_path / "a.parquet").items == tuple(items)
    assert read_texts(tmp_path / "a.parquet", limit=1500).items == tuple(items[:1500])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_limit_reads_no_further(tmp_path, name):
    lines = {
        "a.txt": ["a", "b"],
        "a.jsonl": ['{"text": "a"}', '{"text": "b"}'],
        "a.csv": ["text", "a", "b"],
    }[name]
    # Far behind, so that no read-ahead of the file object meets it.
    (tmp_path / name).write_bytes("\n".join(lines).encode() + b"\n" * 100_000 + b"\xff\xfe")
    assert read_texts(tmp_path / name, limit=2).items == ("a", "b")
    with pytest.raises(InputError, match="not UTF-8"):
        read_texts(tmp_path / name)


def test_skip_bad_counts_what_it_leaves_out(tmp_path):
    lines = [
        '{"text": "a"}',
        "{",
        '{"text": null}',
        '{"txt": "b"}',
        "[1]",
        '{"text": " "}',
        '{"text": "c"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    texts = read_texts(tmp_path / "a.jsonl", skip_bad=True)
    assert texts.items == ("a", "c")
    assert texts.source == "a.jsonl, column text (5 bad rows skipped)"
    assert read_texts(tmp_path / "a.jsonl", skip_bad=True, limit=2).items == ("a", "c")
    write_csv(
        tmp_path / "a.csv", [("id", "text"), (1, "a"), (2,), (3, "b", "c"), (4, ""), (5, "d")]
    )
    assert read_texts(tmp_path / "a.csv", skip_bad=True).items == ("a", "d")
    write_parquet(tmp_path / "a.parquet", ["a", None, "d"])
    assert read_texts(tmp_path / "a.parquet", skip_bad=True).items == ("a", "d")
    (tmp_path / "none.jsonl").write_text("{\n{\n")
    with pytest.raises(InputError, match=r"none.jsonl has no texts \(2 bad rows skipped\)"):
        read_texts(tmp_path / "none.jsonl", skip_bad=True)


@pytest.mark.parametrize(
    ("name", "content", "column", "says"),
    [
        ("a.txt", b"", None, r"a\.txt has no texts"),
        ("a.txt", b"\n \n\r\n", None, r"has no texts"),
        ("a.txt", b"x", "text", r"one text per line and no column 'text'"),
        (
            "a.txt",
            b"fine\nna\xefve\n",
            None,
            r"a\.txt: line 2 is not UTF-8 .* save the file as UTF-8",
        ),
        ("a.txt", "text".encode("utf-16"), None, r"line 1 is not UTF-8"),
        ("a.docx", b"x", None, r"none of \.txt, \.jsonl, \.csv, \.tsv, \.parquet"),
        ("noextension", b"x", None, r"none of \.txt"),
        ("a.gz", b"x", None, r"none of \.txt"),
        ("a.txt.gz", b"not packed", None, r"cannot read .*gzip"),
        ("a.txt.gz", gzip.compress(b"hello " * 999)[:-9], None, r"cannot read .*ended"),
        ("a.txt.gz", gzip.compress(b"")[:10] + b"\xff" * 70, None, r"cannot read"),
        ("a.jsonl", b"", None, r"has no texts"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": \n',
            None,
            r"a\.jsonl: line 2 is not valid JSON \(Expecting value\); correct it, or skip",
        ),
        ("a.jsonl", b'{"text": %s}' % (b"9" * 5000), None, r"line 1 is not valid JSON \(Exceeds"),
        ("a.jsonl", b"[" * 100_000, None, r"line 1 is not valid JSON"),
        ("a.jsonl", b'\n["a"]', None, r"line 2 is not a JSON object"),
        (
            "a.jsonl",
            b'{"body": "a", "n": 1}',
            None,
            r"line 1 has no field 'text'; it has: 'body', 'n'",
        ),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": null}',
            None,
            r"line 2 is None \(NoneType\), not a string",
        ),
        ("a.jsonl", b'{"n": 3}', "n", r"line 1 is 3 \(int\), not a string"),
        ("a.jsonl", b'{"text": ["a"]}', None, r"line 1 is \['a'\] \(list\), not a string"),
        ("a.jsonl", b'{"text": ""}', None, r"line 1 is empty"),
        ("a.jsonl", b'{"text": "\\ud83d"}', None, r"line 1 has half of a surrogate pair"),
        ("a.csv", b"", None, r"has no texts"),
        ("a.csv", b"text\n", None, r"has no texts"),
        ("a.csv", b"id,body\n1,a\n", None, r"a\.csv: no column 'text'; it has: 'id', 'body'"),
        ("a.csv", b'"a\nb",c\n1,2\n', None, r"it has: 'a\\nb', 'c'"),
        ("a.csv", b'id,text\n1,"two\nlines"\n2\n', None, r"line 4 has 1 fields, the header 2"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", None, r"line 3 has 3 fields, the header 2"),
        ("a.csv", b"id,text\n1,a\n2,\n", None, r"line 3 is empty"),
        (
            "a.csv",
            b'id,text\n1,"open\n2,b\n',
            None,
            r"line 3 is not valid CSV \(unexpected end of data\)",
        ),
        ("a.csv", b"id,text\n1,caf\xe9\n", None, r"line 2 is not UTF-8"),
        ("a.tsv", b"id\tbody\n1\ta\n", "title", r"no column 'title'; it has: 'id', 'body'"),
        ("a.parquet", b"", None, r"a\.parquet: not a readable Parquet file"),
        (
            "a.parquet",
            b"PAR1" + b"x" * 99 + b"PAR1",
            None,
            r"cannot read|not a readable Parquet file",
        ),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, column, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_texts(tmp_path / name, column=column)
    assert name in one_line(error)


def test_bad_parquet_columns(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, ["a", None])
    for column, says in {
        "body": "no column 'body'; it has: 'id', 'text'",
        "id": r"row 1 is 0 \(int\), not a string",
        "text": r"row 2 is None \(NoneType\), not a string",
    }.items():
        with pytest.raises(InputError, match=says) as error:
            read_texts(path, column=column)
        one_line(error)
    pq.write_table(pa.table({"text": [b"bytes"]}), path)
    with pytest.raises(InputError, match="not a string"):
        read_texts(path)


def test_no_such_file_a_directory_and_a_bad_limit(tmp_path):
    with pytest.raises(InputError, match=r"no such file: .*missing\.txt"):
        read_texts(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="is a directory; give a file"):
        read_texts(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match="limit is 0; it must be at least 1"):
        read_texts(tmp_path / "a.txt", limit=0)


@pytest.mark.parametrize(
    ("sent", "column", "expected"),
    [
        (b"one\n\ntw\xc3\xb6\n", None, [["one", "twö"], "standard input"]),
        (b'{"t": "one"}\n{"t": "two"}\n', "t", [["one", "two"], "standard input, column t"]),
        (b"", None, "standard input has no texts"),
        (
            b'{"a": 1}\n',
            "t",
            "standard input: line 1 has no field 't'; it has: 'a'; correct it, or skip",
        ),
    ],
)
def test_standard_input(sent, column, expected):
    code = (
        "import json; from kvlens.texts.readers import *; from kvlens.store.errors import InputError\n"
        f"try: texts = read_texts('-', {column!r}); print(json.dumps([texts.items, texts.source]))\n"
        "except InputError as error: print(json.dumps(str(error)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found == expected if isinstance(expected, list) else found.startswith(expected)


# From wikitext to sentences

ARTICLE = """{{Infobox person|name=X|born={{birth date|1900|1|1}}}}
{{About|a thing}}
[[File:A.jpg|thumb|A caption with a [[link]]. It is dropped.]]
'''Ada Lovelace''' ({{IPAc-en|x}}; {{lang|el|Α}}, born 1815) was a ''mathematician''<ref>A note.</ref>
from [[London|the city]].{{sfn|X|2000}}
She&nbsp;wrote to [[Babbage]] &ndash; often{{citation needed|date=May 2016}} daily. <!-- hidden -->
It was {{convert|3|km|mi}} away.
Mr. J. D. Smith of the U.S. Navy paid [http://example.org her friend] well.
A pro-U.S. and pro-Europe policy of the then Lt. Governor won.

== A heading ==
{{Main|Other}}
The drink H<sub>2</sub>O was praised by the 19<sup>th</sup> century. Here 10<sup>3</sup> is a number.
So is <math>x^2</math> here. Below stand the facts:
* A list item. It is dropped.
# Another one. It is dropped.
: An indented line. It is dropped.
{| class="wikitable"
| A cell. || It is dropped.
|}
She asked: "Is it so?" He said "yes" (or [[no]]). But "this quote is open. A fragment without a verb
[[Category:Things]]

==References==
{{reflist}}
This is no prose. It is dropped.
"""


def test_wikitext_becomes_sentences_and_gaps():
    assert paragraphs(ARTICLE) == [
        [
            "Ada Lovelace was a mathematician from the city.",
            "She wrote to Babbage – often daily.",
            None,
            "Mr. J. D. Smith of the U.S. Navy paid her friend well.",
            "A pro-U.S. and pro-Europe policy of the then Lt. Governor won.",
        ],
        [
            "The drink H2O was praised by the 19th century.",
            None,
            None,
            None,
        ],
        [None, 'He said "yes" (or no).', None, None],
    ]


def test_passages_never_cross_a_gap_or_a_paragraph():
    words: list[str | None] = [
        f"W{i} " + " ".join(f"w{i}" for _ in range(8)) + f" e{i}." for i in range(60)
    ]
    blocks: list[list[str | None]] = [[*words[:15], None, *words[15:40]], words[40:]]
    targets = [200.0, 10.0, 50.0, 23.0, 100.0, 10.0]
    cuts = cut(blocks, targets)
    assert sorted(cuts) == list(range(6))
    numbers = {r: [int(w[1:]) for w in re.findall(r"W\d+", text)] for r, text in cuts.items()}
    for r, found in numbers.items():
        assert all(b == a + 1 for a, b in pairwise(found))
        assert len({(i >= 15) + (i >= 40) for i in found}) == 1
        assert 10 * len(found) == len(cuts[r].split())
    assert [len(numbers[r]) for r in range(6)] == [20, 1, 5, 2, 10, 1]
    used = [i for found in numbers.values() for i in found]
    assert len(used) == len(set(used))


# The corpus itself


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
        # Against the log-uniform law itself: the largest distance of the two distribution functions.
        law = [(x - math.log(10)) / math.log(20) for x in logs]
        assert max(abs(u - (i + 0.5) / len(law)) for i, u in enumerate(law)) < 0.15
        assert sum(x > math.log(100) for x in logs) > 0.1 * len(logs)


@pytest.mark.real
def test_calibration_texts_are_clean_prose(passages):
    for text in passages:
        assert not re.search(
            r"\[\[|\]\]|\{|\}|<|>|''|\||&\w+;|https?:|\n|\t|  |\ufffc|\x00| [,.;]|\( ?\)", text
        ), text
        assert re.match(r"[\"“'‘(\[]?[A-Z]", text), text
        assert re.search(r"[.!?][\"”'’)\]]*$", text), text
        assert text.count("(") == text.count(")"), text


@pytest.mark.real
def test_passages_stand_in_their_articles_and_those_in_the_dump(passages):
    texts = dict(articles())
    with bz2.open(cache_dir() / "texts" / "enwiki-shortened.xml.bz2") as file:
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
    for n in (0, -1, 1048):
        with pytest.raises(
            InputError, match=rf"{n} calibration texts asked for; there are 1 to 1047"
        ) as error:
            calibration_texts(n)
        one_line(error)


@pytest.mark.real
def test_calibration_texts_depend_on_no_cache_hash_seed_or_locale(tmp_path, passages):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "enwiki-shortened.xml.bz2").symlink_to(
        cache_dir() / "texts" / "enwiki-shortened.xml.bz2"
    )
    environment = {
        **os.environ,
        "KVLENS_CACHE": str(tmp_path),
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
    }
    code = "from kvlens.texts.wikipedia import calibration_texts as c; print(c(1000).sha256); print(c(1000).sha256)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [passages.sha256] * 2


# Rows and pairs: one reader for every table file


def scored(n):
    return [{"sentence1": f"a {i}", "sentence2": f'b, "{i}"\n', "score": i / 2} for i in range(n)]


def write_table(path, rows):
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        if ".jsonl" in path.name:
            file.write("\n".join(json.dumps(row) for row in rows))
            return
        delimiter = "\t" if ".tsv" in path.name else ","
        writer = csv.DictWriter(file, ["score", "sentence2", "sentence1"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


KINDS = ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv", "a.parquet"]


@pytest.mark.parametrize("name", KINDS)
def test_pairs_come_from_every_table_file(tmp_path, name):
    write_table(tmp_path / name, scored(40))
    pairs = read_pairs(tmp_path / name)
    assert pairs.first == tuple(f"a {i}" for i in range(40))
    assert pairs.second == tuple(f'b, "{i}"\n' for i in range(40))
    assert pairs.scores.tolist() == [i / 2 for i in range(40)]
    assert read_pairs(tmp_path / name, 15).scores.tolist() == [i * 40 // 15 / 2 for i in range(15)]


@pytest.mark.parametrize(
    ("name", "place"),
    # Each row but the header takes two lines in .csv and .tsv, since a sentence ends in one.
    [("a.jsonl", "line 12"), ("a.csv", "line 25"), ("a.tsv", "line 25"), ("a.parquet", "row 12")],
)
def test_a_bad_pair_is_named_by_its_place(tmp_path, name, place):
    rows = scored(20)
    rows[11]["score"] = float("nan")
    write_table(tmp_path / name, rows)
    with pytest.raises(
        InputError, match=rf"{name}, {place}: needs sentence1, sentence2 and score \(the row has"
    ) as error:
        read_pairs(tmp_path / name)
    one_line(error)


@pytest.mark.parametrize("name", KINDS[2:])
def test_pairs_without_a_score_are_refused(tmp_path, name):
    pq.write_table(pa.table({"sentence1": ["a"], "sentence2": ["b"]}), tmp_path / "a.parquet")
    if "parquet" not in name:
        write_csv(
            tmp_path / name,
            [("sentence1", "sentence2"), ("a", "b")],
            "\t" if "tsv" in name else ",",
            gzip.open if ".gz" in name else open,
        )
    with pytest.raises(
        InputError, match=r"cannot read the pairs: .*no column 'score'; it has: 'sentence1'"
    ):
        read_pairs(tmp_path / name)


def test_rows_have_places_and_optional_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"_id": 1, "text": "a", "title": "T"}\n\n{"_id": "2", "text": "b"}\n{"text": "c"}\n'
    )
    rows = list(read_rows(tmp_path / "a.jsonl", ("_id", "text"), optional=("title",)))
    assert [row.place for row in rows] == ["line 1", "line 3", "line 4"]
    assert [row.fields.get("title") for row in rows] == ["T", None, None]
    assert [row.problem for row in rows] == ["", "", "has no field '_id'; it has: 'text'"]
    pq.write_table(pa.table({"text": ["a", "b"], "_id": [1, 2]}), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet", ("_id", "text"), optional=("title",)))
    assert [(row.place, row.fields) for row in rows] == [
        ("row 1", {"_id": 1, "text": "a"}),
        ("row 2", {"_id": 2, "text": "b"}),
    ]
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match="no column 'text'"):
        list(read_rows(tmp_path / "a.txt", ("text",)))
