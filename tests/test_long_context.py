import json

import numpy as np
import pytest
from conftest import byte_tokenizer, tiny

import kvlens
from kvlens import Encoder, InputError
from kvlens.cli import main
from kvlens.embedding.cache import EmbeddingCache
from kvlens.texts.texts import Texts

pytest.importorskip("mteb")
from kvlens.evaluation.long_texts import long_articles
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.scores import Scores

pytestmark = pytest.mark.real  # the distractors are Wikipedia passages


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    words = ["river", "stone", "cloud", "engine", "paper", "winter", "garden", "signal"]
    opening = [f"Text number {i} is about " + " ".join(rng.choice(words, 12)) for i in range(6)]
    return Texts(
        tuple(f"{o}.\n\n{' '.join(rng.choice(words, 220))}\n\nThe end." for o in opening), "made up"
    )


def test_documents_are_the_rest_of_an_article_cut_to_a_length():
    tokenizer = byte_tokenizer()
    short, long = long_articles(tokenizer, (256, 1024))
    assert (short.metadata.name, long.metadata.name) == ("LongWikipedia@256", "LongWikipedia@1024")
    assert short.metadata.revision != long.metadata.revision
    for task, length in ((short, 256), (long, 1024)):
        task.load_data()
        data = task.dataset["default"]["test"]
        documents, queries = (
            dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True)),
            data["queries"],
        )
        articles = dict(kvlens.articles())
        assert 80 <= len(queries) <= 106
        passages = set(kvlens.calibration_texts(1000).items[600:])
        fitted_on = set(kvlens.calibration_texts(600).items)
        assert sum(text in passages for text in documents.values()) == 400
        assert not fitted_on & set(documents.values())
        for title, opening in zip(queries["id"], queries["text"], strict=True):
            assert articles[title].startswith(f"{opening}\n\n{documents[title]}")
            assert len(tokenizer(documents[title])["input_ids"]) <= length
            assert (
                len(documents[title].encode()) > length - 4
            )  # all are long: each fills its length
            candidates = data["top_ranked"][title]
            assert title in candidates
            assert not [key for key in candidates if key.startswith(f"{title} #")]
            assert data["relevant_docs"][title] == {title: 1}


def test_own_corpus_is_ranked_as_by_hand(corpus, tmp_path):
    lm = tiny("llama")
    (task,) = long_articles(lm.tokenizer, (128,), corpus)
    table = evaluate(
        lm,
        [task],
        tmp_path,
        ["kv_embedding", "mean"],
        (1, 2),
        cache=EmbeddingCache(tmp_path / "cache"),
    )
    assert [(s.task, s.n, s.unit, s.metric) for s in table.scores] == [
        ("LongTexts@128", 6, "queries", "ndcg_at_10")
    ] * 2
    encoder = Encoder(lm, "mean")
    openings, rests = zip(*(text.split("\n\n", 1) for text in corpus), strict=True)
    passages = kvlens.calibration_texts(1000).items[600:]
    documents = encoder.encode_document(
        [*(rest[:128] for rest in rests), *passages]
    )  # a byte is a token
    near = encoder.similarity(encoder.encode_query(openings), documents).numpy()
    ranks = (near > np.diag(near)[:, None]).sum(1)
    expected = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()
    assert table.scores[1].value == pytest.approx(100 * expected, abs=1e-2)


def test_too_short_texts():
    with pytest.raises(
        InputError,
        match=r"1 texts have an opening paragraph of 10 words, a blank line and 200 words",
    ):
        long_articles(
            byte_tokenizer(), (256,), Texts(("no paragraphs", "a " * 12 + "\n\n" + "b " * 200), "x")
        )


def test_on_the_terminal(corpus, tmp_path, capsys):
    lm = tiny("gpt2")
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "long.jsonl"
    file.write_text("\n".join(json.dumps({"body": text}) for text in corpus))
    command = [
        "evaluate",
        str(tmp_path / "model"),
        "--tasks",
        "LongWikipedia",
        "--corpus",
        str(file),
        "--column",
        "body",
    ]
    command += [
        "--lengths",
        "40,80",
        "--methods",
        "mean",
        "--limit",
        "3",
        "-o",
        str(tmp_path / "run"),
    ]
    assert main(command) == 0
    assert "NOT COMPARABLE" in capsys.readouterr().out
    scores = Scores.load(tmp_path / "run" / "scores-limit-3.json").scores
    assert [(s.task, s.n) for s in scores] == [("LongTexts@40", 3), ("LongTexts@80", 3)]
