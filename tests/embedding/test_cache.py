"""Cache: a text is embedded once for a configuration, whoever asks, and comes back the same."""

import shutil
import warnings

import numpy as np
import pytest
from embedding_cases import DUPLICATED
from safetensors.numpy import load_file, save_file

from kvlens.embedding import cache as module
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError
from kvlens.store.notices import Notice


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture
def passes(encoder):
    """How many texts each forward pass had."""
    seen = []
    handle = encoder.lm.base.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0]))
    )
    yield seen
    handle.remove()


def test_only_what_is_missing_is_computed(encoder, cache, passes):
    ticks = []
    vectors = cache.encode(encoder, DUPLICATED, progress=lambda *counts: ticks.append(counts))
    distinct = len(set(DUPLICATED))
    assert sum(passes) == distinct
    assert ticks[-1] == (distinct, distinct)
    passes.clear()
    again = EmbeddingCache(cache.folder).encode(encoder, [*DUPLICATED[::-1], "new", "new"])
    assert sum(passes) == 1
    np.testing.assert_array_equal(again[:-2], vectors[::-1])
    np.testing.assert_array_equal(again[-1], again[-2])


def test_the_vectors_are_the_encoders_before_post_processing(encoder, cache):
    fitted = Encoder(encoder.lm, layers=(1, 2))
    fitted.fit_post("center", DUPLICATED)
    vectors = cache.encode(fitted, DUPLICATED)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(DUPLICATED), 32))
    np.testing.assert_allclose(vectors, encoder.encode(DUPLICATED), atol=2e-6)
    queries = cache.encode(fitted, DUPLICATED, "query")
    np.testing.assert_allclose(queries, encoder.encode_query(DUPLICATED), atol=2e-6)


def test_another_configuration_is_another_folder(encoder, cache, passes):
    cache.encode(encoder, ["a"])
    others = [Encoder(encoder.lm, layers=(1,)), Encoder(encoder.lm, "mean")]
    for other in others:
        passes.clear()
        cache.encode(other, ["a"])
        assert passes
    assert len(list(cache.folder.iterdir())) == 3


def test_a_stopped_run_keeps_its_chunks(encoder, cache, passes, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)

    def stop(done, total):
        if done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.encode(encoder, DUPLICATED, progress=stop)
    passes.clear()
    cache.encode(encoder, DUPLICATED)
    assert sum(passes) == len(set(DUPLICATED)) - 3


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def other_width(file):
    vectors = {"digests": load_file(file)["digests"], "vectors": np.zeros((1, 3), np.float32)}
    save_file(vectors, file)


def other_name(file):
    file.rename(file.with_name("of-an-older-version.safetensors"))


@pytest.mark.parametrize("damage", [cut, flip, other_width, other_name])
def test_a_file_that_is_not_as_it_was_written_is_made_again_and_said(
    encoder, cache, passes, damage
):
    vectors = cache.encode(encoder, ["a"])
    cache.encode(encoder, ["b"])
    file = next(
        file
        for file in cache.folder.rglob("*.safetensors")
        if load_file(file)["vectors"].tobytes() == vectors.tobytes()
    )
    passes.clear()
    damage(file)
    with pytest.warns(
        Notice, match=r"1 of 2 files in .* removed, and their vectors made again"
    ) as told:
        again = cache.encode(encoder, ["a", "b"])
    assert len(told) == 1
    assert sum(passes) == 1
    np.testing.assert_array_equal(again[:1], vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)  # it is gone
        cache.encode(encoder, ["a", "b"])
    assert sum(passes) == 1


def test_a_file_of_another_folder_is_not_taken(encoder, cache, passes):
    cache.encode(encoder, ["a"])
    (file,) = cache.folder.rglob("*.safetensors")
    other = Encoder(encoder.lm, "mean")
    place = cache.place(other, "document")
    place.mkdir()
    shutil.copy(file, place)
    passes.clear()
    with pytest.warns(Notice, match="1 of 1 files"):
        vectors = cache.encode(other, ["a"])
    np.testing.assert_allclose(vectors, other.encode(["a"]), atol=2e-6)


def test_two_processes_fill_one_cache(encoder, cache):
    """Each chunk of one is followed by the same texts of the other."""
    other = EmbeddingCache(cache.folder)
    second = []
    first = cache.encode(
        encoder,
        DUPLICATED,
        progress=lambda *counts: second.append(other.encode(encoder, DUPLICATED)),
    )
    np.testing.assert_array_equal(first, second[0])
    np.testing.assert_array_equal(first, cache.encode(encoder, DUPLICATED))


def test_a_cache_that_cannot_be_written_is_refused_in_a_line(encoder, cache, tmp_path):
    cache.encode(encoder, ["a"])
    (file,) = cache.folder.rglob("*.safetensors")
    file.unlink()
    file.mkdir()
    with (
        pytest.warns(Notice, match="1 of 1 files"),
        pytest.raises(InputError, match="is a folder, not a file"),
    ):
        cache.encode(encoder, ["a"])
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*cache is a file, not a folder"):
        EmbeddingCache(tmp_path / "cache").encode(encoder, ["a"])
