"""Chunk index: what is finished is read; what is not as it was written is made again and said."""

import json
import sys
import warnings

import numpy as np
import pytest
from killed import killed_before
from safetensors.numpy import load_file, save_file

from kvlens.store.chunk_index import INDEX, ChunkIndex, Form
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file
from kvlens.store.notices import Notice

FORMS = {"vectors": Form("float32", 2), "counts": Form("int64", 1)}
NAMES = ("a.safetensors", "b.safetensors", "c.safetensors")


def arrays(name, rows=2):
    """What a chunk holds; its name decides the numbers."""
    vectors = np.full((rows, 3), ord(name[0]), np.float32)
    return {"vectors": vectors, "counts": np.array([rows])}


def run(folder, names=NAMES):
    """Go through the chunks; which of them were computed."""
    computed = []

    def compute(name):
        computed.append(name)
        return arrays(name)

    index = ChunkIndex.open(folder, FORMS)
    for name in names:
        chunk = index.chunk(name, 2, lambda name=name: compute(name))
        assert chunk.keys() == FORMS.keys()
        for key, array in arrays(name).items():
            np.testing.assert_array_equal(chunk[key], array, strict=True)
    return [name[0] for name in computed]


def quietly(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return run(folder)


@pytest.fixture
def done(tmp_path):
    assert quietly(tmp_path) == ["a", "b", "c"]
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_chunk_is_computed_once_and_has_a_line(done):
    before = content(done)
    assert quietly(done) == []
    assert content(done) == before
    assert set(before) == {*NAMES, INDEX}
    lines = [json.loads(line) for line in (done / INDEX).read_text().splitlines()]
    assert [(line["file"], line["rows"]) for line in lines] == [(name, 2) for name in NAMES]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def refill(**changes):
    """Other arrays in a chunk, with the hash that they have."""

    def change(path):
        before = sha256_file(path)
        save_file({**load_file(path), **changes}, path)
        index = path.with_name(INDEX)
        index.write_text(index.read_text().replace(before, sha256_file(path)))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is damaged: its hash is another"),
        (flip, "is damaged: its hash is another"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (refill(vectors=np.zeros((3, 3), np.float32)), "holds 3 rows in place of 2"),
        (refill(vectors=np.zeros((2, 4), np.float32)), "holds rows of"),
        (refill(vectors=np.zeros((2, 3))), "holds vectors of float64"),
        (refill(vectors=np.zeros((2, 3, 1), np.float32)), "holds vectors of float32 in 3 axes"),
        (refill(vectors=np.full((2, 3), np.nan, np.float32)), "holds NaN or infinity"),
        (refill(more=np.zeros(1)), "holds other arrays than vectors, counts"),
    ],
)
def test_a_chunk_that_is_not_as_it_was_written_is_computed_again_and_said(done, damage, says):
    whole = content(done)
    damage(done / NAMES[1])
    with pytest.warns(Notice, match=f"1 of 3 chunks in .* computed again .*{says}") as told:
        assert run(done) == ["b"]
    assert len(told) == 1
    left = content(done)
    assert {name: left[name] for name in NAMES} == {name: whole[name] for name in NAMES}
    assert quietly(done) == []


def test_the_index_decides(done):
    lines = (done / INDEX).read_text().splitlines(keepends=True)
    # A torn last line, and a chunk without one: the process was killed there.
    for torn in ("", lines[2][:10], lines[2][:-1]):
        (done / INDEX).write_text("".join(lines[:2]) + torn)
        assert quietly(done) == ["c"]
    (done / INDEX).write_text(lines[0] + "{}\n" + lines[2])
    with pytest.warns(Notice, match=f"1 of 3 .*b.safetensors is not in {INDEX}"):
        assert run(done) == ["b"]
    (done / INDEX).unlink()
    with pytest.warns(Notice, match=f"3 of 3 .*a.safetensors is not in {INDEX}"):
        assert run(done) == ["a", "b", "c"]
    (done / INDEX).write_bytes(b"\xff\n" + b"[" * 100_000 + b"\n")
    with pytest.warns(Notice, match="3 of 3"):
        assert run(done) == ["a", "b", "c"]
    outside = lines[0].replace("a.safetensors", "../a.safetensors")
    (done / INDEX).write_text(outside + lines[1] + lines[2])
    with pytest.warns(Notice, match=f"1 of 3 .*a.safetensors is not in {INDEX}"):
        assert run(done) == ["a"]


def test_what_is_computed_has_to_fit(done):
    index = ChunkIndex.open(done, FORMS)
    wider = {**arrays("d"), "vectors": np.zeros((2, 4), np.float32)}
    with pytest.raises(InputError, match="is of another run, move it away"):
        index.chunk("d.safetensors", 2, lambda: wider)
    with pytest.warns(Notice, match="holds 2 rows in place of 1: it is computed again"):
        index.chunk("a.safetensors", 1, lambda: arrays("a", rows=1))


@pytest.mark.slow
def test_killed_before_any_change_it_goes_on(tmp_path):
    run(tmp_path / "whole")
    whole = content(tmp_path / "whole")
    n = 0
    killed = True
    while killed:
        n += 1
        folder = tmp_path / str(n)
        killed = killed_before(n, lambda folder=folder: run(folder))
        quietly(folder)
        left = content(folder)
        assert {name: left[name] for name in whole} == whole
    assert n > 20


def test_a_chunk_costs_the_same_however_many_there_are(tmp_path):
    index = ChunkIndex.open(tmp_path, FORMS)
    file = (tmp_path / INDEX).stat().st_ino
    opened = []

    def look(event, args):
        if event == "open" and opened is not None:
            opened.append(args[0])

    sys.addaudithook(look)
    costs = []
    for n in range(20):
        opened.clear()
        index.chunk(f"{n:02d}.safetensors", 2, lambda: arrays("a"))
        costs.append(len(opened))
    opened = None
    assert len(set(costs)) == 1
    assert (tmp_path / INDEX).stat().st_ino == file, "appended to, not written again"
