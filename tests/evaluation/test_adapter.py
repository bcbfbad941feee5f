"""The encoder as a model of mteb."""

from collections import Counter

import numpy as np
import pytest

from kvlens import Encoder
from kvlens.evaluation.adapter import mteb_encoder, register
from kvlens.store.errors import InputError

mteb = pytest.importorskip("mteb")
from mteb.mocks.mock_tasks import MockSTSTask  # noqa: E402

BATCHES = [{"text": ["b", "", "a longer text"]}, {"text": ["b", "c"]}]
TEXTS = [text for batch in BATCHES for text in batch["text"]]
PLACE = {"task_metadata": MockSTSTask.metadata, "hf_split": "test", "hf_subset": "default"}


def test_each_distinct_text_is_embedded_once(lm, cache):
    calls = Counter()
    encoder = Encoder(lm, "kv_embedding", (1, 2))
    handle = lm.base.register_forward_hook(lambda *args: calls.update(["pass"]))
    model = mteb_encoder(encoder, cache)
    vectors = model.encode(BATCHES, **PLACE)
    assert calls["pass"] == 1  # one batch of distinct texts
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-5)
    again = model.encode(BATCHES, **PLACE)
    handle.remove()
    assert calls["pass"] == 2  # the one of `encoder.encode`
    np.testing.assert_array_equal(again, vectors)


def test_queries_get_the_query_prompt(lm, cache):
    encoder = Encoder(lm, "kv_embedding", (1, 2))
    model = mteb_encoder(encoder, cache)
    documents = model.encode(BATCHES, **PLACE)
    queries = model.encode(BATCHES, prompt_type=mteb.types.PromptType.query, **PLACE)
    np.testing.assert_allclose(queries[0], encoder.encode_query("b"), atol=1e-5)
    assert np.abs(queries - documents).max() > 0.01


def test_mteb_loads_it_by_name(lm, saved_model, plain_encoder, tmp_path):
    name = f"kvlens/{saved_model}:mean"
    meta = register(name)
    model = mteb.get_model(name)
    options = {"co2_tracker": False, "show_progress_bar": False}
    results = mteb.evaluate(model, MockSTSTask(), cache=mteb.ResultCache(tmp_path), **options)
    plain = plain_encoder(Encoder(lm, "mean"))
    expected = mteb.evaluate(plain, MockSTSTask(), cache=None, **options)
    score, expected_score = (r.task_results[0].get_score() for r in (results, expected))
    assert score == pytest.approx(expected_score, abs=1e-5)
    (written,) = tmp_path.glob("results/kvlens__model/*/experiments/*/MockSTSTask.json")
    assert meta.experiment_kwargs["hash"] in str(written)


def test_the_leaderboard_is_told_what_the_model_tells(lm, saved_model, cache):
    """Against transformers' own counts and mteb's own table and filters."""
    from mteb.benchmarks import _create_table
    from mteb.models.get_model_meta import get_model_metas
    from mteb.models.model_implementations import MODEL_REGISTRY

    (saved_model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    name = f"kvlens/{saved_model}:kv_embedding:layers=1"
    meta = register(name)
    weights = dict(lm.hf.named_parameters())
    assert meta.n_parameters == sum(weight.numel() for weight in weights.values())
    assert meta.n_embedding_parameters == lm.info.vocab_size * lm.info.d_model
    assert meta.memory_usage_mb == round(4 * meta.n_parameters / 2**20)
    assert meta.embed_dim == Encoder(lm, "kv_embedding", (1,)).encode("a").size
    assert (meta.license, meta.open_weights, meta.use_instructions) == ("apache-2.0", True, True)
    assert not mteb_encoder(Encoder(lm, "mean"), cache).mteb_model_meta.use_instructions
    filters = {"frameworks": ["Transformers"], "n_parameters_range": (1, 10**9)}
    assert meta in get_model_metas(open_weights=True, use_instructions=True, **filters)
    _create_table._static_model_meta.cache_clear()
    row = _create_table._static_model_meta()[name]
    assert row["Embedding Dimensions"] == meta.embed_dim
    del MODEL_REGISTRY[name]
    _create_table._static_model_meta.cache_clear()


def test_what_only_people_know_is_told_and_decides_nothing(lm, cache):
    encoder = Encoder(lm, "mean")
    plain = mteb_encoder(encoder, cache).mteb_model_meta
    assert plain.training_datasets is None
    about = {"languages": ["eng-Latn"], "training_datasets": set(), "release_date": "2026-01-02"}
    told = mteb_encoder(encoder, cache, about=about).mteb_model_meta
    assert told.is_zero_shot_on(["STSBenchmark"])
    assert (told.experiment_kwargs, told.name) == (plain.experiment_kwargs, plain.name)
    for wrong in ({"name": "a/b"}, {"languages": ["english"]}, {"license": 5}):
        with pytest.raises(InputError, match="`about`") as caught:
            mteb_encoder(encoder, cache, about=wrong)
        assert len(str(caught.value)) < 300


def test_a_post_processing_decides_the_dimension(lm, cache):
    encoder = Encoder(lm, "value_aggregation")
    width = encoder.encode("a").size
    assert mteb_encoder(encoder, cache).mteb_model_meta.embed_dim == width
    encoder.fit_post("whiten", [f"text {i}" for i in range(40)], dimension=3)
    assert mteb_encoder(encoder, cache).mteb_model_meta.embed_dim == 3
