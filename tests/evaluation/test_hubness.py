"""Hubness and CSLS: against counts by hand, scipy, and the formula written out."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import skew

from kvlens import Encoder, InputError
from kvlens.evaluation.csls import CSLSIndex
from kvlens.evaluation.hubness import hubness
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.scores import Scores
from kvlens.evaluation.tasks import find_tasks

mteb = pytest.importorskip("mteb")
K = 10
SIZES = [(40, 60, 10), (5, 200, 3), (30, 12, 1)]


def rankings_of(similarities):
    return {
        str(query): {str(document): float(value) for document, value in enumerate(row)}
        for query, row in enumerate(similarities)
    }


def occurrences(similarities, k=K):
    """How often each document is among the first of a query, by sorting every row."""
    counts = np.zeros(similarities.shape[1])
    for row in similarities:
        counts[np.argsort(-row)[:k]] += 1
    return counts


@pytest.mark.parametrize(("n_queries", "n_documents", "k"), SIZES)
def test_hubness_is_the_skewness_of_how_often_a_document_is_found(n_queries, n_documents, k):
    similarities = np.random.default_rng(0).normal(size=(n_queries, n_documents))
    expected = skew(occurrences(similarities, k))
    assert hubness(rankings_of(similarities), n_documents, k) == pytest.approx(expected)


def test_a_hub_makes_it_large():
    rng = np.random.default_rng(0)
    similarities = rng.normal(size=(50, 100))
    plain = hubness(rankings_of(similarities), 100)
    similarities[:, :3] += 10
    assert hubness(rankings_of(similarities), 100) > plain + 2


def test_it_is_undefined_where_all_documents_are_found_alike():
    similarities = np.random.default_rng(0).normal(size=(4, 8))
    assert hubness(rankings_of(similarities), 8) is None


def cosines_of(queries, documents):
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(documents, axis=1)
    return queries @ documents.T / lengths


def csls_by_hand(queries, documents):
    """The paper's formula, number by number."""
    cosines = cosines_of(queries, documents)
    scores = np.empty_like(cosines)
    for i, j in np.ndindex(cosines.shape):
        near_documents = np.sort(cosines[i])[::-1][:K].mean()
        near_queries = np.sort(cosines[:, j])[::-1][:K].mean()
        scores[i, j] = 2 * cosines[i, j] - near_documents - near_queries
    return scores


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 6)), rng.normal(size=(40, 6))  # more than a block of queries


def test_csls_is_its_formula(vectors):
    queries, documents = vectors
    index = CSLSIndex()
    index.add_documents(documents, [f"d{i}" for i in range(40)])
    values, rows = index.search(queries, 7, cosine)
    expected = csls_by_hand(queries, documents)
    assert np.allclose(values, -np.sort(-expected, axis=1)[:, :7])
    assert np.array_equal(rows, np.argsort(-expected, axis=1)[:, :7])


def test_csls_of_chosen_candidates(vectors):
    queries, documents = vectors[0][:5], vectors[1]
    names = {i: f"q{i}" for i in range(5)}
    candidates = {name: [f"d{row}" for row in range(i, 30, 7)] for i, name in names.items()}
    index = CSLSIndex()
    index.add_documents(documents, [f"d{i}" for i in range(40)])
    values, rows = index.search(queries, 100, cosine, candidates, names)
    expected = csls_by_hand(queries, documents)
    for i in range(5):
        among = expected[i, range(i, 30, 7)]
        assert rows[i] == np.argsort(-among).tolist()
        assert np.allclose(values[i], -np.sort(-among))


@pytest.fixture(scope="module")
def run(lm, make_data, tmp_path_factory):
    """``run(folder, **options)``: the scores of `mean` on a retrieval task and one of pairs."""
    from kvlens.embedding.cache import EmbeddingCache

    home = tmp_path_factory.mktemp("hubness")
    data = make_data(home / "data")
    cache = EmbeddingCache(home / "cache")

    def scored(folder, names=("Cranfield", "STSBenchmark"), **options):
        tasks = find_tasks(names, data)
        return evaluate(lm, tasks, home / folder, ["mean"], cache=cache, **options)

    scored.home = home
    return scored


def vectors_by_hand(lm, data):
    encoder = Encoder(lm, "mean")
    documents, queries = (
        [json.loads(line) for line in (data / "Cranfield" / name).read_text().splitlines()]
        for name in ("corpus.jsonl", "queries.jsonl")
    )
    titled = [f"{row['title']} {row['text']}" for row in documents]
    return (
        encoder.encode_query([row["text"] for row in queries]),
        encoder.encode_document(titled),
    )


def ndcg(scores):
    """Of the local data: query i has documents 3 i to 3 i + 2, of grades 1 to 3."""
    gains = np.zeros((12, 50))
    for i in range(12):
        gains[i, 3 * i : 3 * i + 3] = (1, 2, 3)
    discount = 1 / np.log2(np.arange(2, 12))
    found = np.take_along_axis(gains, np.argsort(-scores, axis=1)[:, :10], 1)
    return 100 * ((found * discount).sum(1) / ((3, 2, 1) * discount[:3]).sum()).mean()


@pytest.mark.parametrize("csls", [False, True])
def test_rows_of_retrieval(run, lm, csls):
    retrieval, pairs = run("both", csls=csls).scores
    scores = (csls_by_hand if csls else cosines_of)(*vectors_by_hand(lm, run.home / "data"))
    assert retrieval.hubness == pytest.approx(skew(occurrences(scores)), abs=1e-6)
    assert retrieval.value == pytest.approx(ndcg(scores), abs=1e-2)
    assert retrieval.csls == csls
    assert (pairs.hubness, pairs.csls) == (None, False)


def test_a_ranking_by_csls_is_filed_by_itself(run):
    plain = run("filed")
    by_csls = run("filed", csls=True)
    assert plain.scores[0].hubness != by_csls.scores[0].hubness
    assert run("filed") == plain
    assert run("filed", csls=True) == by_csls
    assert len(list((run.home / "filed").rglob("Cranfield.json"))) == 2
    assert len(list((run.home / "filed").rglob("STSBenchmark.json"))) == 1


def test_what_is_told_and_saved(run):
    table = run("told", csls=True)
    assert Scores.load(run.home / "told" / "scores.json") == table
    retrieval, pairs = json.loads((run.home / "told" / "scores.json").read_text())["scores"]
    assert retrieval["csls"] is True
    assert not {"hubness", "csls"} & pairs.keys()
    text = table.markdown()
    assert f"| {table.scores[0].hubness:.2f} " in text
    assert "rank documents by CSLS" in text
    frame = table.frame()
    assert frame["hubness"].tolist() == [table.scores[0].hubness, None]


def test_it_is_for_retrieval(run):
    with pytest.raises(InputError, match="`csls` is for retrieval"):
        run("refused", names=("STSBenchmark",), csls=True)
