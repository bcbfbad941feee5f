"""Addresses: a file that is elsewhere is read as the same file here; a data set, row by row."""

import gzip
import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvlens.store.errors import InputError
from kvlens.texts.addresses import is_address, public, public_word
from kvlens.texts.hub_table import HubTable
from kvlens.texts.pairs import read_pairs
from kvlens.texts.readers import read_texts

ROWS = [{"id": f"n{i}", "text": f"é {i}\n"} for i in range(2000)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
NAMES = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.parquet", "a.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same texts in files of every kind."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.jsonl").write_bytes(JSONL)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(JSONL))
    (folder / "a.jsonl.zst").write_bytes(pa.compress(JSONL, "zstd", asbytes=True))
    (folder / "a.csv").write_text("id,text\n1,one\n2,two\n")
    (folder / "a.txt").write_text("one\ntwo\n")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "a.parquet")
    return folder


@pytest.fixture(scope="module")
def in_memory(folder):
    system = fsspec.filesystem("memory")
    for name in NAMES:
        system.pipe(f"/kvlens/{name}", (folder / name).read_bytes())
    yield "memory://kvlens"
    system.rm("/kvlens", recursive=True)


@pytest.fixture(scope="module")
def served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """It says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_elsewhere_is_the_same_file(folder, in_memory, served, name):
    here = read_texts(folder / name, ids=True)
    for base in (in_memory, served, f"file://{folder}"):
        address = f"{base}/{name}"
        there = read_texts(address, ids=True)
        assert (there.items, there.ids) == (here.items, here.ids)
        assert there.source.startswith(public(address))
        assert "secret" not in there.source


def test_it_is_as_strict_about_lines(in_memory):
    system = fsspec.filesystem("memory")
    system.pipe("/kvlens/bad.jsonl", b'{"text": "a"}\n\n{"text": 5}\n')
    with pytest.raises(InputError, match=r"memory://kvlens/bad.jsonl: line 3 is 5 \(int\)"):
        read_texts(f"{in_memory}/bad.jsonl")
    pairs = "".join(
        json.dumps({"sentence1": "a", "sentence2": "b", "score": i}) + "\n" for i in range(12)
    )
    system.pipe("/kvlens/pairs.jsonl", pairs.encode())
    assert read_pairs(f"{in_memory}/pairs.jsonl").scores.tolist() == list(range(12))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("memory://kvlens/none.jsonl", "cannot read memory://kvlens/none.jsonl"),
        ("memory://kvlens/a.doc", r"memory://kvlens/a.doc is none of .txt, .jsonl"),
        ("nosuch://kvlens/a.jsonl", "nosuch://kvlens/a.jsonl: cannot be read.*nosuch"),
        ("http://127.0.0.1:9/a.jsonl", "http://127.0.0.1:9/a.jsonl"),
        ("hf://only", "names no data set: give hf://ORG/NAME"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(address, says):
    with pytest.raises(InputError, match=says) as error:
        read_texts(address)
    assert "\n" not in str(error.value)


def test_what_is_an_address():
    assert all(map(is_address, ("s3://b/a.jsonl", "hf://o/n", "memory://a.txt", "HTTPS://h/a.csv")))
    assert not any(map(is_address, ("a.jsonl", "C:/a.jsonl", "c://a.jsonl", "/s3://a", "-")))
    assert public("https://me:pw@h/a.csv?sig=1&b") == "https://h/a.csv"


@pytest.mark.parametrize(
    ("typed", "recorded"),
    [
        ("https://me:pw@h/a.csv?sig=1", "https://h/a.csv"),
        ("--input=s3://key:word@bucket/a", "--input=s3://bucket/a"),
        ("hf://org/name@main", "hf://org/name@main"),
        ("--text=is https://h/a?b good? yes", "--text=is https://h/a?b good? yes"),
        ("what? nothing", "what? nothing"),
    ],
)
def test_a_command_line_records_addresses_without_secrets(typed, recorded):
    assert public_word(typed) == recorded


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://o/n", ("o/n", None, None, None)),
        ("hf://o/n.x-1/en:test#body", ("o/n.x-1", "en", "test", "body")),
        ("hf://o/n#a column", ("o/n", None, None, "a column")),
        ("hf://o/n:train", ("o/n", None, "train", None)),
    ],
)
def test_the_address_of_a_data_set(address, parts):
    assert HubTable.at(address) == HubTable(*parts)
    assert HubTable.at("hf://datasets/o/n/a.jsonl") is None


def test_a_data_set_is_streamed(folder, tmp_path, monkeypatch):
    """A folder of data files stands where the hub's copy would: `datasets` takes it by its name."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "org" / "name"
    home.mkdir(parents=True)
    (home / "train.jsonl").write_bytes(JSONL)
    texts = read_texts("hf://org/name", ids=True)
    assert texts.items == tuple(row["text"] for row in ROWS)
    assert texts.ids == tuple(row["id"] for row in ROWS)
    assert texts.source == "hf://org/name, column text"
    assert read_texts("hf://org/name:train#id", limit=3).items == ("n0", "n1", "n2")
    (home / "test.jsonl").write_bytes(JSONL)
    with pytest.raises(InputError, match=r"hf://org/name: has the splits 'train', 'test': name"):
        read_texts("hf://org/name")
    with pytest.raises(InputError, match=r"no column 'body'; it has: 'id', 'text'"):
        read_texts("hf://org/name:test#body")
    with pytest.raises(InputError, match=r"hf://org/name:none"):
        read_texts("hf://org/name:none")


def test_what_is_wrong_with_pairs_is_said_without_secrets(served):
    with pytest.raises(InputError, match="no field 'sentence1'") as error:
        read_pairs(f"{served}/a.jsonl")
    assert "secret" not in str(error.value)


def test_nothing_of_it_is_imported_for_a_local_file(folder):
    code = (
        "import sys; from kvlens.texts.readers import read_texts; read_texts(sys.argv[1]); "
        "print([name for name in ('fsspec', 'datasets', 'requests') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(folder / "a.jsonl.gz")]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
