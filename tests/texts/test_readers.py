"""Reading the user's files: what is read back, what is skipped, what is refused and how."""

import gzip
import io
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from table_files import one_line, write_csv, write_jsonl, write_parquet

from kvlens.store.errors import InputError
from kvlens.texts import contents, parquet
from kvlens.texts.readers import read_texts

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
    packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert read_texts(str(packed)).items == texts.items
    assert read_texts(write_zst(tmp_path / "a.txt.zst", path.read_bytes())).items == texts.items


def write_zst(path, content):
    """As the `zstd` tool writes it: two frames, one after another."""
    half = len(content) // 2
    frames = [pa.compress(part, "zstd", asbytes=True) for part in (content[:half], content[half:])]
    path.write_bytes(b"".join(frames))
    return path


def test_zst_is_as_strict_as_what_is_in_it(tmp_path):
    rows = b'{"text": "one"}\n{"text": "two"}\n{"text": 3}\n'
    path = write_zst(tmp_path / "a.jsonl.ZST", rows)
    assert read_texts(path, limit=2).items == ("one", "two")
    with pytest.raises(InputError, match=r"a\.jsonl\.ZST: line 3 is 3 \(int\), not a string"):
        read_texts(path)
    whole = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"]}), whole)
    assert read_texts(write_zst(tmp_path / "a.parquet.zst", whole.getvalue())).items == ("a", "b")


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
        ("a.txt.gz", gzip.compress(b"hello " * 999, mtime=0)[:-9], None, r"cannot read .*ended"),
        ("a.txt.zst", b"not packed", None, r"cannot read .*ZSTD"),
        ("a.txt.zst", pa.compress(b"hello " * 999, "zstd", True)[:-9], None, r"cannot .*[Tt]runc"),
        ("a.txt.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 70, None, r"cannot read"),
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
        ("a.jsonl", b'{"text": "a", "text": "b"}', None, r"line 1 has the field 'text' twice"),
        (
            "a.jsonl",
            b'{"text": 1%s}' % (b"0" * 400),
            None,
            r"line 1 is 10000.*\(int\), not a string",
        ),
        (
            "a.jsonl",
            json.dumps({f"field {i}": i for i in range(99)}).encode(),
            None,
            r"has no field 'text'; it has: 'field 0', .*'field 7', …; correct",
        ),
        ("a.csv", b"text,id,text\na,1,b\n", None, r"two columns are called 'text'; rename one"),
        ("a.csv", b",".join([b"x" * 50] * 5000), None, r"no column 'text'; it has: .*…$"),
        ("a.txt", "text".encode("utf-16-le"), None, r"line 1 looks like UTF-16"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16-be"), None, r"line 1 looks like UTF-16"),
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
    assert len(one_line(error)) < 300


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
    with pytest.raises(InputError, match="`limit` is 0; it must be at least 1"):
        read_texts(tmp_path / "a.txt", limit=0)


def test_places_where_no_file_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match=r"pipe\.txt is a pipe or a device; give a file, or -"):
        read_texts(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match="null is a pipe or a device"):
        read_texts("/dev/null")
    with pytest.raises(InputError, match=r"cannot read .*: File name too long") as error:
        read_texts(tmp_path / ("x" * 400 + ".txt"))
    assert len(one_line(error)) < 300
    with pytest.raises(InputError, match="no such file"):
        read_texts("a\0b.txt")
    (tmp_path / "folder.jsonl.gz").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        read_texts(tmp_path / "folder.jsonl.gz")


def test_a_name_that_is_not_utf8_is_spelled_out_in_the_source(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "a"}')
    texts = read_texts(os.fsdecode(path))
    assert texts.source == r"caf\xe9.jsonl, column text"
    assert json.loads(texts.info().model_dump_json())["source"] == texts.source
    with pytest.raises(InputError, match=r"no column|no field") as error:
        read_texts(os.fsdecode(path), column="body")
    assert one_line(error).isprintable()


def test_letters_of_parquet_that_are_not_utf8(tmp_path):
    path = tmp_path / "a.parquet"
    letters = [b"a", b"caf\xe9", b"c"]
    pq.write_table(pa.table({"text": pa.array(letters, pa.binary()).cast(pa.binary())}), path)
    spoilt = pa.array(["a", "cafe", "c"])
    buffers = spoilt.buffers()
    data = pa.py_buffer(buffers[2].to_pybytes()[:5].replace(b"cafe", b"caf\xe9") + b"c")
    spoilt = pa.StringArray.from_buffers(3, buffers[1], data)
    pq.write_table(pa.table({"text": spoilt}), path)
    with pytest.raises(InputError, match=r"a\.parquet: row 2 is not UTF-8 in the column 'text'"):
        read_texts(path)
    assert read_texts(path, skip_bad=True).items == ("a", "c")


def test_columns_of_parquet_that_are_there_twice(tmp_path):
    path = tmp_path / "a.parquet"
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array([1])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "id"]), path)
    with pytest.raises(InputError, match="two columns are called 'text'; rename one"):
        read_texts(path)
    columns = pa.Table.from_arrays(columns, names=["text", "x", "x"])
    pq.write_table(columns, path)
    assert read_texts(path).items == ("a",)


def test_a_damaged_page_of_parquet_is_placed(tmp_path):
    path = tmp_path / "a.parquet"
    items = [f"a text of some length {i}" for i in np.random.default_rng(0).permutation(5000)]
    table = pa.table({"text": items})
    pq.write_table(table, path, row_group_size=2500, use_dictionary=False, compression="gzip")
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: not readable after row 2048 \("):
        read_texts(path)
    assert read_texts(path, limit=2000).items == tuple(items[:2000])


def test_what_a_few_zipped_bytes_stand_for_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "UNZIPPED_ANYWAY", 2**20)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a text\n" * 500_000, mtime=0))
    write_zst(tmp_path / "a.txt.zst", b"a text\n" * 500_000)
    for name in ("a.txt.gz", "a.txt.zst"):
        with pytest.raises(InputError, match=r"unzips to more than 1 MiB, out of proportion"):
            read_texts(tmp_path / name)
    assert len(read_texts(tmp_path / "a.txt.gz", limit=1000)) == 1000
    whole = io.BytesIO()
    pq.write_table(pa.table({"text": ["a" * 2**21]}), whole, compression="none")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(whole.getvalue(), mtime=0))
    with pytest.raises(InputError, match=r"unzips to more than 1 MiB"):
        read_texts(tmp_path / "a.parquet.gz")


def test_a_line_without_an_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "LONGEST_LINE", 2**20)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + b"x" * (2**20 + 1))
    with pytest.raises(InputError, match=r"a\.jsonl: line 2 is longer than 1 MiB"):
        read_texts(tmp_path / "a.jsonl")


def test_rows_of_parquet_are_in_proportion_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_ANYWAY", 1000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 10**6}), path)
    with pytest.raises(InputError, match=r"claims 1000000 rows in \d+ bytes"):
        read_texts(path)


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
        "import json\n"
        "from kvlens import InputError, read_texts\n"
        "try:\n"
        f"    texts = read_texts('-', {column!r})\n"
        "    print(json.dumps([texts.items, texts.source]))\n"
        "except InputError as error:\n"
        "    print(json.dumps(str(error)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert answer == expected if isinstance(expected, list) else answer.startswith(expected)
