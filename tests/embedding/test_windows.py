"""Windows: a stretch of rows at a time gives what it gives alone, and a stopped run goes on."""

import json

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_cases import DUPLICATED, ENDINGS, output, stop_after, write_jsonl
from zoo import TEXTS

import kvlens
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.file_run import embed_file
from kvlens.embedding.vectors import load_vectors
from kvlens.embedding.windows import FORMS, embed_window, windows
from kvlens.store.chunk_index import ChunkIndex
from kvlens.store.errors import InputError
from kvlens.store.progress import silent

ROWS = [*DUPLICATED, "too long " * 50, *TEXTS[:2], "the last one"]
WINDOW = 5
RUN = {"window": WINDOW, "chunk": 2}


@pytest.fixture
def source(tmp_path):
    rows = [{"id": f"doc-{i}", "text": text} for i, text in enumerate(ROWS)]
    return write_jsonl(tmp_path / "rows.jsonl", rows)


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_window_is_what_it_is_alone(encoder, source, tmp_path, ending):
    seen = []
    target = tmp_path / f"out{ending}"
    result = embed_file(encoder, source, target, progress=lambda *done: seen.append(done), **RUN)
    whole = load_vectors(target)
    assert whole.ids == tuple(f"doc-{i}" for i in range(len(ROWS)))
    assert (whole.info.window, whole.info.facts["window"]) == (WINDOW, WINDOW)
    n_distinct = 0
    for first in range(0, len(ROWS), WINDOW):
        rows = ROWS[first : first + WINDOW]
        alone = write_jsonl(tmp_path / "alone.jsonl", [{"text": text} for text in rows])
        embed_file(encoder, alone, tmp_path / "alone.npy", chunk=2, overwrite=True)
        expected = np.load(tmp_path / "alone.npy")
        np.testing.assert_array_equal(whole.vectors[first : first + WINDOW], expected)
        n_distinct += len(set(rows))
    assert seen[-1] == (n_distinct, n_distinct)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert result.truncated == whole.info.truncated == 1
    if ending == ".parquet":
        assert pq.read_metadata(target).num_row_groups == 3
        assert json.loads(pq.read_metadata(target).metadata[b"kvlens"])["rows"] == len(ROWS)


def test_one_window_says_nothing_of_it(encoder, source, tmp_path):
    embed_file(encoder, source, tmp_path / "one.npy", window=len(ROWS))
    embed_file(encoder, source, tmp_path / "default.npy")
    assert output(tmp_path, "one.npy") == output(tmp_path, "default.npy")
    assert "window" not in json.loads((tmp_path / "one.npy.json").read_text())["info"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stopped_run_goes_on_in_any_window(encoder, source, tmp_path, ending):
    embed_file(encoder, source, tmp_path / f"whole{ending}", **RUN)
    target = tmp_path / f"out{ending}"
    for calls in (1, 4, 3):
        with pytest.raises(KeyboardInterrupt):
            embed_file(encoder, source, target, resume=True, progress=stop_after(calls), **RUN)
        assert not target.exists()
    with pytest.raises(InputError, match=r"out.* has a run with other window: give what"):
        embed_file(encoder, source, target, chunk=2, resume=True)
    embed_file(encoder, source, target, resume=True, **RUN)
    assert output(tmp_path, "out") == output(tmp_path, "whole")


def test_a_file_that_changes_meanwhile_is_refused(encoder, source, tmp_path):
    wide = [{"text": text, "other": "x" * 10_000} for text in ROWS]  # more than is read at once
    content = write_jsonl(source, wide).read_text()

    def change(done, total):
        source.write_text(content.replace("the last one", "the LAST one"))

    with pytest.raises(InputError, match=r"rows.jsonl changed while it was read"):
        embed_file(encoder, source, tmp_path / "out.npy", progress=change, **RUN)
    assert not (tmp_path / "out.npy").exists()
    assert not (tmp_path / "out.npy.json").exists()


def test_texts_from_elsewhere_are_kept_meanwhile(encoder, source, tmp_path):
    fsspec.filesystem("memory").pipe("/windows/rows.jsonl", source.read_bytes())
    embed_file(encoder, "memory://windows/rows.jsonl", tmp_path / "there.npy", **RUN)
    embed_file(encoder, source, tmp_path / "here.npy", **RUN)
    there, here = (load_vectors(tmp_path / name) for name in ("there.npy", "here.npy"))
    np.testing.assert_array_equal(there.vectors, here.vectors)
    assert there.ids == here.ids
    assert there.info.texts.source == "memory://windows/rows.jsonl, column text"
    assert there.info.texts.sha256 == here.info.texts.sha256
    assert not list(tmp_path.glob(".*"))


def test_a_window_by_itself(encoder, tmp_path):
    """The pieces as an engine of its own uses them."""
    assert list(windows("abcdefg", 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    index = ChunkIndex.open(tmp_path, FORMS)
    made = embed_window(encoder, DUPLICATED, FileRun(chunk=3), index, silent, before=40)
    assert (made.distinct, made.truncated) == (len(set(DUPLICATED)), 0)
    np.testing.assert_allclose(made.vectors, encoder.encode(DUPLICATED), atol=2e-6)
    names = [path.name for path in tmp_path.glob("*.safetensors")]
    assert min(names) == "000000040.safetensors"


def test_facts_of_a_window_belong_to_the_hash(encoder, source, tmp_path):
    embed_file(encoder, source, tmp_path / "out.npy", **RUN)
    beside = tmp_path / "out.npy.json"
    beside.write_text(beside.read_text().replace('"window": 5', '"window": 6'))
    with pytest.raises(InputError, match="hash"):
        kvlens.load_vectors(tmp_path / "out.npy")
