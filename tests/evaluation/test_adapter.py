"""The encoder as a model of mteb."""

from collections import Counter

import numpy as np
import pytest

from kvlens import Encoder
from kvlens.evaluation.adapter import mteb_encoder, register

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
