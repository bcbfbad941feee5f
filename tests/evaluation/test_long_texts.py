"""Retrieval of long texts at several lengths, against the articles and against ranks by hand."""

import json

import numpy as np
import pytest
from zoo import byte_tokenizer

import kvlens
from kvlens import Encoder, InputError
from kvlens.cli import main
from kvlens.texts.texts import Texts

pytest.importorskip("mteb")
from kvlens.evaluation.long_texts import long_articles
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.scores import Scores

pytestmark = pytest.mark.real  # the distractors are Wikipedia passages

WORDS = ["river", "stone", "cloud", "engine", "paper", "winter", "garden", "signal"]


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    openings = [f"Text number {i} is about " + " ".join(rng.choice(WORDS, 12)) for i in range(6)]
    rests = [" ".join(rng.choice(WORDS, 220)) for _ in openings]
    texts = [
        f"{opening}.\n\n{rest}\n\nThe end." for opening, rest in zip(openings, rests, strict=True)
    ]
    return Texts(tuple(texts), "made up")


@pytest.fixture(scope="module")
def tasks():
    return dict(zip((256, 1024), long_articles(byte_tokenizer(), (256, 1024)), strict=True))


def test_a_task_a_length(tasks):
    short, long = tasks.values()
    assert (short.metadata.name, long.metadata.name) == ("LongWikipedia@256", "LongWikipedia@1024")
    assert short.metadata.revision != long.metadata.revision


@pytest.mark.parametrize("length", [256, 1024])
def test_documents_are_the_rest_of_an_article_cut_to_a_length(tasks, length):
    tokenizer = byte_tokenizer()
    articles = dict(kvlens.articles())
    tasks[length].load_data()
    data = tasks[length].dataset["default"]["test"]
    documents = dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True))
    queries = data["queries"]
    assert 80 <= len(queries) <= 106
    for title, opening in zip(queries["id"], queries["text"], strict=True):
        document = documents[title]
        assert articles[title].startswith(f"{opening}\n\n{document}")
        assert len(tokenizer(document)["input_ids"]) <= length
        assert len(document.encode()) > length - 4  # all are long: each fills its length


@pytest.mark.parametrize("length", [256, 1024])
def test_distractors_are_passages_that_nothing_is_fitted_on(tasks, length):
    tasks[length].load_data()
    data = tasks[length].dataset["default"]["test"]
    documents = data["corpus"]["text"]
    passages = set(kvlens.calibration_texts(1000).items[600:])
    fitted_on = set(kvlens.calibration_texts(600).items)
    assert sum(text in passages for text in documents) == 400
    assert not fitted_on & set(documents)
    for title in data["queries"]["id"]:
        candidates = data["top_ranked"][title]
        assert title in candidates
        assert not [key for key in candidates if key.startswith(f"{title} #")]
        assert data["relevant_docs"][title] == {title: 1}


def test_a_corpus_of_ones_own_is_ranked_as_by_hand(lm, corpus, tmp_path, cache):
    (task,) = long_articles(lm.tokenizer, (128,), corpus)
    table = evaluate(lm, [task], tmp_path, ["kv_embedding", "mean"], (1, 2), cache=cache)
    facts = [(score.task, score.n, score.unit, score.metric) for score in table.scores]
    assert facts == [("LongTexts@128", 6, "queries", "ndcg_at_10")] * 2
    encoder = Encoder(lm, "mean")
    openings, rests = zip(*(text.split("\n\n", 1) for text in corpus), strict=True)
    passages = kvlens.calibration_texts(1000).items[600:]
    cut = [rest[:128] for rest in rests]  # a byte is a token
    documents = encoder.encode_document([*cut, *passages])
    near = encoder.similarity(encoder.encode_query(openings), documents).numpy()
    ranks = (near > np.diag(near)[:, None]).sum(1)
    expected = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()
    assert table.scores[1].value == pytest.approx(100 * expected, abs=1e-2)


def test_too_short_texts():
    texts = Texts(("no paragraphs", "a " * 12 + "\n\n" + "b " * 200), "x")
    message = r"1 texts have an opening paragraph of 10 words, a blank line and 200 words"
    with pytest.raises(InputError, match=message):
        long_articles(byte_tokenizer(), (256,), texts)


def test_on_the_terminal(saved_model, corpus, tmp_path, capsys):
    file = tmp_path / "long.jsonl"
    file.write_text("\n".join(json.dumps({"body": text}) for text in corpus))
    run = tmp_path / "run"
    command = f"evaluate {saved_model} --tasks LongWikipedia --corpus {file} --column body"
    options = f"--lengths 40,80 --methods mean --limit 3 -o {run}"
    assert main(f"{command} {options}".split()) == 0
    assert "NOT COMPARABLE" in capsys.readouterr().out
    scores = Scores.load(run / "scores-limit-3.json").scores
    assert [(s.task, s.n) for s in scores] == [("LongTexts@40", 3), ("LongTexts@80", 3)]
