"""Chunks: what is finished is read, the rest is computed, each file is written whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlens.embedding.chunks import longest_first, stored_chunks
from kvlens.store.chunk_index import INDEX, ChunkIndex, Form
from kvlens.store.notices import Notice


class Lengths:
    """Stores the length of every text, and what it was asked for."""

    def __init__(self, folder):
        self.index = ChunkIndex.open(folder, {"lengths": Form("int64", 1)})
        self.computed = []
        self.ticks = []

    def compute(self, chunk, progress):
        self.computed.append(chunk.texts)
        progress(1, len(chunk.texts))
        return {"lengths": np.array([len(text) for text in chunk.texts])}

    def progress(self, done, total):
        self.ticks.append((done, total))

    def run(self, texts, size):
        chunks = stored_chunks(texts, size, self.index, self.compute, self.progress)
        return [(chunk.texts, arrays["lengths"].tolist()) for chunk, arrays in chunks]


@given(st.lists(st.text(max_size=5)))
def test_each_distinct_text_once_the_longest_first(texts):
    ordered = longest_first(texts)
    assert set(ordered) == set(texts)
    assert len(ordered) == len(set(texts))
    lengths = [len(text) for text in ordered]
    assert lengths == sorted(lengths, reverse=True)
    assert longest_first(reversed(texts)) == ordered


def test_chunks_are_computed_once(tmp_path):
    first = Lengths(tmp_path)
    expected = [(("cccc", "bbb"), [4, 3]), (("aa",), [2])]
    assert first.run(["cccc", "bbb", "aa"], 2) == expected
    assert first.computed == [("cccc", "bbb"), ("aa",)]
    assert first.ticks == [(1, 3), (2, 3), (3, 3), (3, 3)]
    (tmp_path / "000000002.safetensors").unlink()
    with pytest.warns(Notice, match="No such file"):
        second = Lengths(tmp_path)
    assert second.run(["cccc", "bbb", "aa"], 2) == expected
    assert second.computed == [("aa",)]
    assert second.ticks[0] == (2, 3)


def test_a_chunk_that_fails_leaves_no_file(tmp_path):
    class Failing(Lengths):
        def compute(self, chunk, progress):
            if chunk.first:
                raise KeyboardInterrupt
            return super().compute(chunk, progress)

    with pytest.raises(KeyboardInterrupt):
        Failing(tmp_path).run(["bb", "a"], 1)
    assert {path.name for path in tmp_path.iterdir()} == {"000000000.safetensors", INDEX}


def test_no_texts_are_no_chunks(tmp_path):
    assert Lengths(tmp_path).run([], 3) == []
    assert not list(tmp_path.glob("*.safetensors"))
