"""A run whose memory is short goes on, once killed, with the batches that it had come to."""

from functools import partial

import numpy as np
import pytest
from short_of_memory import short_of_memory
from zoo import tiny

import kvlens
from kvlens.store.notices import Notice

ROOM = 100  # padded tokens for which there is memory
short_memory = partial(short_of_memory, most=ROOM)
TEXTS = [letter * n for n in (60, 22, 18) for letter in "abcd"]


def stop(done, total):
    if done >= 8:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("short") / "texts.txt"
    path.write_text("\n".join(TEXTS))
    return path


def embedded(lm, source, target, **options):
    encoder = kvlens.Encoder(lm, "mean")
    with short_memory(lm.base) as fitting, pytest.warns(Notice, match="memory is short") as told:
        kvlens.embed_file(encoder, source, target, chunk=4, **options)
    return fitting, len(told)


def test_a_resumed_run_has_the_batches_and_the_bytes_of_one_that_was_not_killed(source, tmp_path):
    lm = tiny("llama")
    whole, n_told = embedded(lm, source, tmp_path / "whole.npy")
    assert n_told == 1
    # The second chunk would fit into one batch, but after the first one batches are small.
    assert whole == [60] * 4 + [44, 44] + [54, 18]
    encoder = kvlens.Encoder(lm, "mean")
    with short_memory(lm.base), pytest.warns(Notice), pytest.raises(KeyboardInterrupt):
        kvlens.embed_file(encoder, source, tmp_path / "out.npy", chunk=4, progress=stop)
    encoder = kvlens.Encoder(lm, "mean")
    with short_memory(lm.base) as fitting:
        kvlens.embed_file(encoder, source, tmp_path / "out.npy", chunk=4, resume=True)
    assert fitting == [44, 44, 54, 18] == whole[4:]
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    expected = kvlens.Encoder(lm, "mean").encode(TEXTS)
    assert np.allclose(np.load(tmp_path / "whole.npy"), expected, atol=1e-6)


def test_recorded_shards_do_so_too(tmp_path):
    lm = tiny("llama")
    options = {"prompt": "raw", "keep": ("k",), "shard": 4}
    kvlens.record(lm, TEXTS[:1])  # where states are read is tried once
    with short_memory(lm.bridge), pytest.warns(Notice):
        kvlens.record_shards(lm, TEXTS, tmp_path / "whole", **options)
    with short_memory(lm.bridge), pytest.warns(Notice), pytest.raises(KeyboardInterrupt):
        kvlens.record_shards(lm, TEXTS, tmp_path / "out", **options, progress=stop)
    with short_memory(lm.bridge):
        kvlens.record_shards(lm, TEXTS, tmp_path / "out", **options, resume=True)
    for file in sorted((tmp_path / "whole").iterdir()):
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes(), file.name


def test_a_resumed_run_takes_the_batches_it_was_begun_with(source, tmp_path):
    """Where nobody says how large they are: the memory that is free now may be another."""
    lm = tiny("llama")
    begun = kvlens.Encoder(lm, "mean", batch_tokens=99)
    with pytest.raises(KeyboardInterrupt):
        kvlens.embed_file(begun, source, tmp_path / "out.npy", chunk=4, progress=stop)
    encoder = kvlens.Encoder(lm, "mean")
    kvlens.embed_file(encoder, source, tmp_path / "out.npy", chunk=4, resume=True)
    assert kvlens.load_vectors(tmp_path / "out.npy").info.batch_tokens == 99
    again = kvlens.embed_file(encoder, source, tmp_path / "out.npy", chunk=4, resume=True)
    assert again.complete
    assert encoder.batch_tokens == 4096
