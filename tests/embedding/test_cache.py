"""Cache: a text is embedded once for a configuration, whoever asks, and comes back the same."""

import numpy as np
import pytest
from embedding_cases import DUPLICATED

from kvlens.embedding import cache as module
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError


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


def test_a_damaged_file_is_named(encoder, cache):
    cache.encode(encoder, ["a"])
    (file,) = cache.folder.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cannot be read .*: delete it") as error:
        cache.encode(encoder, ["a"])
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)
