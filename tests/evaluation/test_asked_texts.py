"""Asked texts: what is told of an evaluation, against what the evaluation itself embeds."""

import json

import pytest

from kvlens.embedding.cache import EmbeddingCache
from kvlens.evaluation.asked_texts import Expected, asked_texts
from kvlens.evaluation.candidates import candidates
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.tasks import find_tasks
from kvlens.texts.limits import Limits

METHODS = ["mean", "last_token", "echo"]


def gathered(lm, data, names, cache, limit=None):
    every = candidates(lm, METHODS, None, Limits(), False)
    expected = Expected(every, (None,), limit, False, cache)
    for task in find_tasks(names, data):
        expected.add(task)
    return expected.passes


def n_tokens(planned):
    encoder = planned.encoders[0]
    tokenized = encoder.tokenize(planned.texts, encoder.prompt_for(planned.kind))
    return planned.times * sum(len(text.ids) for text in tokenized)


def rows(data, name):
    return [json.loads(line) for line in (data / f"{name}.jsonl").read_text().splitlines()]


def test_what_mteb_asks_for(data):
    (pairs, found) = find_tasks(["STSBenchmark", "Cranfield"], data)
    sentences = [
        row[side] for row in rows(data, "STSBenchmark/test") for side in ("sentence1", "sentence2")
    ]
    assert {kind: set(texts) for kind, texts in asked_texts(pairs, None).items()} == {
        "document": set(sentences)
    }
    asked = asked_texts(found, None)
    assert set(asked["query"]) == {row["text"] for row in rows(data, "Cranfield/queries")}
    documents = {f"{row['title']} {row['text']}" for row in rows(data, "Cranfield/corpus")}
    assert set(asked["document"]) == documents
    assert len(asked_texts(found, 3)["query"]) == 3


@pytest.mark.slow
def test_an_evaluation_embeds_what_was_told(lm, data, tmp_path, cache):
    names = ["STSBenchmark", "Banking77Classification", "Cranfield"]
    planned = gathered(lm, data, names, cache)
    embedded = []

    def note(base, args, kwargs):
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        embedded.append(int((ids != lm.tokenizer.pad_token_id).sum()))

    handle = lm.base.register_forward_pre_hook(note, with_kwargs=True)
    evaluate(lm, find_tasks(names, data), tmp_path / "run", METHODS, cache=cache)
    handle.remove()
    assert sum(map(n_tokens, planned)) == sum(embedded)
    assert gathered(lm, data, names, cache) == []
    assert gathered(lm, data, ["Cranfield"], EmbeddingCache(tmp_path / "other"))
