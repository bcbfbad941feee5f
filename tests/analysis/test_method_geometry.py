"""Method geometry: the functions of geometry on each method's own embeddings."""

import numpy as np
import pytest

import kvlens
from kvlens.analysis.geometry import (
    alignment,
    eigenvalue_entropy_ratio,
    mean_cosine,
    uniformity,
)
from kvlens.analysis.method_geometry import PLAIN, Geometry, measure
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.spec import NO_REROUTING
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by

TEXTS = [f"line {i} about {'rivers' if i % 2 else 'stones'}" for i in range(24)]

PAIRS = [("a small cat", "a little cat"), ("it rains", "rain falls"), ("he left", "he went away")]


def test_measure_is_the_functions_on_each_methods_own_embeddings(tmp_path, zoo):
    lm = zoo("llama")
    calls = []
    geometry = measure(
        lm,
        (0, 1, 2, 3),
        ("mean", PLAIN, "kv_embedding"),
        texts=TEXTS,
        pairs=PAIRS,
        pairs_source="three pairs",
        cache=EmbeddingCache(tmp_path / "cache"),
        progress=lambda done, total: calls.append((done, total)),
    )
    again = measure(
        lm,
        (0, 1, 2, 3),
        ("mean", NO_REROUTING, "kv_embedding"),
        texts=TEXTS,
        pairs=PAIRS,
        pairs_source="three pairs",
    )
    assert geometry == again
    with made_by("by hand"):
        assert measure(lm, (), ("mean",), texts=TEXTS).command == "by hand"
    assert Geometry.load(geometry.save(tmp_path / "geometry.json")) == geometry
    assert (geometry.n, geometry.n_pairs, len(geometry.sentences)) == (24, 3, 12)
    assert geometry.groups == tuple(i for i in range(4) for _ in range(3))
    assert [total for _, total in calls] == [calls[0][1]] * len(calls)
    assert calls[-1][0] == calls[-1][1]
    layers = {"mean": None, PLAIN: (), "kv_embedding": (0, 1, 2, 3)}
    for row in geometry.methods:
        encoder = kvlens.Encoder(lm, row.label.split()[0], layers[row.label])
        X = encoder.encode(TEXTS)
        assert row.mean_cosine == pytest.approx(mean_cosine(X), abs=1e-6)
        assert row.uniformity == pytest.approx(uniformity(X), abs=5e-6)
        assert row.eigenvalue_entropy_ratio == pytest.approx(eigenvalue_entropy_ratio(X), abs=1e-4)
        sides = (encoder.encode(list(side)) for side in zip(*PAIRS, strict=True))
        assert row.alignment == pytest.approx(alignment(*sides), abs=1e-4)
        truth = encoder.similarity(*[encoder.encode(list(geometry.sentences))] * 2).numpy()
        np.testing.assert_allclose(geometry.cosines[row.label], truth, atol=2e-4)
    _, plain, rerouted = geometry.methods
    # They are not the same embeddings.
    assert abs(rerouted.uniformity - plain.uniformity) > 5e-5


def test_measure_without_pairs_and_with_too_little(zoo):
    lm = zoo("llama")
    geometry = measure(lm, (1,), ("mean",), texts=TEXTS)
    assert geometry.methods[0].alignment is None
    assert (geometry.n_pairs, geometry.pairs) == (0, "")
    with pytest.raises(InputError, match="19 texts say little"):
        measure(lm, (1,), texts=TEXTS[:19])
    with pytest.raises(InputError, match="unknown method 'magic'"):
        measure(lm, (1,), ("magic",), texts=TEXTS)
    with pytest.raises(InputError, match="layer 9 is outside"):
        measure(lm, (9,), (PLAIN,), texts=TEXTS)
