"""Methods that share a pass: one pass for all, and to the bit what each gives by itself."""

import numpy as np
import pytest
from zoo import TEXTS

from kvlens import Encoder
from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.together import raw_together, share_a_pass
from kvlens.store.progress import silent

TEXTS = [*TEXTS, "one more", "and a longer one, so that there is more than one batch " * 3]
LAYERS = {"layers": (0, 2)}
# Each group shares a pass, under document and query prompt alike.
GROUPS = (
    (
        ("last_token", {}),
        ("mean", {}),
        ("mean", {"readout": 1}),
        ("last_token", {"readout": 0, "final_norm": False}),
        ("mean", {"readout": -1, "final_norm": False}),
        ("value_aggregation", {}),
        ("value_aggregation", {"depth": (0.25, 0.75), "pooling": "last"}),
        ("look_both_ways", {"opened": 0, "sinkless": 0}),
    ),
    (
        ("prompt_eol", {}),
        ("aligned_wva", {}),
        ("aligned_wva", {"depth": (0.0, 0.25)}),
        ("prompt_eol", {"readout": -2, "final_norm": False}),
    ),
    (
        ("kv_embedding", {**LAYERS}),
        ("kv_embedding", {**LAYERS, "pooling": "last"}),
        ("kv_embedding", {**LAYERS, "pooling": "mean", "readout": 0.5}),
    ),
    (
        ("kv_embedding", {"layers": ()}),
        ("kv_embedding", {"layers": (), "pooling": "last"}),
    ),
    (("token_prepending", {}), ("token_prepending", {"readout": 2})),
    (("look_both_ways", {}), ("look_both_ways", {"pooling": "last"})),
    (("prompt_eol", {"prepare": False}),),
    (("kv_embedding", {**LAYERS, "bias": 2.0}),),
    (("kv_embedding", {**LAYERS, "heads": (0,)}),),
    (("kv_embedding", {**LAYERS, "value": "zero"}),),
    (("kv_embedding", {**LAYERS, "queries": "shielded"}),),
    (("echo", {}),),
)


def encoders_of(lm, group):
    return [Encoder(lm, name, **settings, batch_tokens=512) for name, settings in group]


@pytest.mark.parametrize("name", ["gemma3", "gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("group", range(6))
def test_vectors_are_those_of_single_runs_to_the_bit(zoo, name, group):
    lm = zoo(name)
    encoders = encoders_of(lm, GROUPS[group])
    assert all(share_a_pass(encoders[0], each, "document") for each in encoders)
    passes = []
    handle = lm.attention(0).register_forward_hook(lambda *ignored: passes.append(1))
    together = raw_together(encoders, TEXTS, "document", silent)
    n_shared = len(passes)
    passes.clear()
    for encoder, vectors in zip(encoders, together, strict=True):
        alone = encoder.raw(TEXTS)
        assert vectors.dtype == alone.dtype
        assert np.array_equal(vectors, alone), encoder.method
    handle.remove()
    assert n_shared * len(encoders) == len(passes)


def test_what_differs_in_tokens_or_route_shares_nothing(zoo):
    lm = zoo("llama")
    one_of_each = [encoders_of(lm, group)[0] for group in GROUPS]
    for i, first in enumerate(one_of_each):
        for j, second in enumerate(one_of_each):
            assert share_a_pass(first, second, "document") == (i == j)
    shorter = Encoder(lm, "mean", max_length=50, batch_tokens=512)
    assert not share_a_pass(one_of_each[0], shorter, "document")
    assert not share_a_pass(one_of_each[0], Encoder(zoo("qwen3"), "mean"), "document")


def test_the_cache_keeps_what_goes_along(zoo, tmp_path):
    lm = zoo("llama")
    encoders = encoders_of(lm, GROUPS[0])
    cache = EmbeddingCache(tmp_path / "together")
    passes = []
    handle = lm.attention(0).register_forward_hook(lambda *ignored: passes.append(1))
    cache.encode(encoders[0], TEXTS, beside=encoders)
    n_passes = len(passes)
    again = [cache.encode(encoder, TEXTS) for encoder in encoders]
    assert len(passes) == n_passes
    handle.remove()
    for encoder, vectors in zip(encoders, again, strict=True):
        alone = EmbeddingCache(tmp_path / "alone").encode(encoder, TEXTS)
        assert np.array_equal(vectors, alone)


def test_who_lacks_other_texts_goes_alone(zoo, tmp_path):
    lm = zoo("llama")
    first, second = encoders_of(lm, GROUPS[0])[:2]
    cache = EmbeddingCache(tmp_path)
    cache.encode(second, TEXTS[:3])
    cache.encode(first, TEXTS, beside=[second])
    passes = []
    handle = lm.attention(0).register_forward_hook(lambda *ignored: passes.append(1))
    cache.encode(second, TEXTS)
    handle.remove()
    assert passes, "in batches of its own, as without the first"
