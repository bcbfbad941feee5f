"""Forecast: tokens, memory and disk are those of the job; the speed is measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passed_tokens import counted
from zoo import TEXTS

import kvlens
from kvlens.checks.forecast import Job, Sample, forecast
from kvlens.checks.forecasts import embedding, passes, recording
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.planned_pass import planned_passes
from kvlens.embedding.together import groups_by_pass
from kvlens.evaluation.pair_score import score_together
from kvlens.store.errors import InputError
from kvlens.texts.limits import Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.texts import Texts


@given(n=st.integers(1, 40), size=st.integers(1, 50))
def test_a_sample_is_of_the_texts(n, size):
    texts = [f"text {i}" for i in range(n)]
    sample = Sample.of(texts, size)
    assert sample.n == n
    assert len(set(sample.texts)) == len(sample.texts) == min(n, size)
    assert set(sample.texts) <= set(texts)
    assert sample.total(len(sample.texts)) == n


def test_every_text_is_as_likely_in_a_sample():
    counts = dict.fromkeys("abcdef", 0)
    for seed in range(600):
        for text in Sample.of("abcdef", 2, seed).texts:
            counts[text] += 1
    assert all(150 < count < 250 for count in counts.values())


def test_the_speed_is_that_of_the_work():
    done = []
    sample = Sample.of([f"text {i}" for i in range(100)])
    job = Job(sample, [7] * 100, done.extend, passes=3)
    told = forecast([job], held=5, disk=6)
    assert sorted(done[1:]) == sorted(sample.texts)
    assert (told.texts, told.tokens, told.disk, told.is_sample) == (100, 2100, 6, False)
    assert told.minutes == pytest.approx(2100 / told.tokens_per_second / 60)
    assert "100 texts, 2,100 tokens in all passes" in str(told)
    small = Job(sample, [1] * 100, lambda texts: pytest.fail("its speed was not asked for"))
    both = forecast([small, job], held=5, disk=6, n_texts=150)
    assert (both.texts, both.tokens) == (150, 2200)


def test_a_slow_machine_is_soon_done(monkeypatch):
    """Stretches grow, so that what is begun late is at most as long as all before it, and one."""
    now = 0.0
    worked = []

    def work(texts):
        nonlocal now
        worked.append(len(texts))
        now += 4.0 * len(texts)

    monkeypatch.setattr("kvlens.checks.forecast.time.perf_counter", lambda: now)
    sample = Sample.of([f"text {i}" for i in range(256)])
    told = forecast([Job(sample, [20] * 256, work)], held=0, disk=0)
    assert worked == [1, 1, 2]
    assert told.tokens_per_second == pytest.approx(5.0)


def test_of_embedding(zoo, tmp_path):
    encoder = kvlens.Encoder(zoo("llama"), "echo")
    told = embedding(encoder, TEXTS, FileRun(kind="query"))
    tokenized = encoder.tokenize(TEXTS, encoder.prompt_for("query"))
    assert told.tokens == sum(len(text.ids) for text in tokenized)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    kvlens.embed_file(encoder, tmp_path / "a.txt", tmp_path / "a.npy", kind="query")
    header = 128  # of numpy's file
    assert told.disk == 2 * ((tmp_path / "a.npy").stat().st_size - header)
    with pytest.raises(InputError, match="no texts"):
        embedding(encoder, [], FileRun())


def test_of_passes_that_encoders_share(zoo):
    encoders = [kvlens.Encoder(zoo("llama"), name) for name in ("mean", "echo", "last_token")]
    planned = planned_passes([*encoders, encoders[0]], "document", TEXTS)
    told = passes(planned, is_written=True)
    lengths = [encoder.tokenize(TEXTS, encoder.prompt_for()) for encoder in encoders[:2]]
    assert told.tokens == sum(len(text.ids) for texts in lengths for text in texts)
    assert told.texts == len(TEXTS)
    assert told.disk == 3 * len(TEXTS) * 32 * 4


def test_of_pairs_by_several_methods(zoo):
    """Against the tokens that really pass; texts of one length, so that nothing is padded."""
    lm = zoo("llama")
    encoders = [kvlens.Encoder(lm, name) for name in ("mean", "echo", "last_token")]
    texts = tuple(f"sentence {i:02}" for i in range(20))
    pairs = Pairs(texts[:10], texts[10:], np.arange(10.0))
    told = passes(planned_passes(encoders, "document", pairs.distinct))
    with counted(lm) as passed:
        for group in groups_by_pass(encoders, "document"):
            score_together(group, pairs)
    assert told.tokens == sum(passed)


@pytest.mark.parametrize(("points", "tokens"), [("last", ("last",)), ("all", ("text",))])
def test_of_recording(zoo, tmp_path, points, tokens):
    lm = zoo("llama")
    prompt = kvlens.PROMPTS["kv-document-inner"]
    texts = Texts(tuple(TEXTS), "here")
    keep = ("hidden", "k", "v")
    told = recording(lm, texts, prompt, Limits(), points, keep, tokens=tokens, shard=2)
    trace = kvlens.record(lm, texts, prompt, points, keep, tokens=tokens)
    assert told.tokens == sum(trace.n_tokens)
    assert told.disk == sum(tensor.nbytes for tensor in trace.tensors.values())
    assert recording(lm, texts, prompt, Limits(), points, keep).disk == 0
