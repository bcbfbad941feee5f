"""`evaluate`: scores against mteb and against scores by hand; what is written, what is resumed."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from chat_models import chat_model
from scipy.stats import spearmanr
from zoo import tiny

import kvlens
from kvlens import Encoder, InputError
from kvlens.embedding.cache import EmbeddingCache
from kvlens.evaluation.candidates import candidates
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.scores import Scores
from kvlens.evaluation.tasks import find_tasks
from kvlens.store.files import cache_dir
from kvlens.store.provenance import made_by
from kvlens.store.wheels import fetch_from_wheels
from kvlens.texts.limits import Limits

mteb = pytest.importorskip("mteb")
from mteb.mocks.mock_tasks import (  # noqa: E402
    MockClassificationTask,
    MockMultilingualSTSTask,
    MockPairClassificationTask,
    MockRerankingTask,
    MockRetrievalTask,
    MockSTSTask,
)
from mteb.mocks.mock_tasks.clustering import MockClusteringTask  # noqa: E402

KINDS = [
    MockSTSTask,
    MockMultilingualSTSTask,
    MockClassificationTask,
    MockPairClassificationTask,
    MockRetrievalTask,
    MockRerankingTask,
    MockClusteringTask,
]
METHODS = ["kv_embedding", "mean", "kv_embedding:layers=none:bias=2"]


@pytest.mark.slow
@pytest.mark.parametrize("mock", KINDS)
def test_every_kind_of_mock_task_scores_as_mteb_does_by_hand(
    mock, lm, tmp_path, cache, plain_encoder
):
    model = plain_encoder(Encoder(lm, "kv_embedding", (1, 2)))
    results = mteb.evaluate(model, mock(), cache=None, co2_tracker=False, show_progress_bar=False)
    expected = results.task_results[0].get_score()
    (score,) = evaluate(lm, [mock()], tmp_path, layers=(1, 2), cache=cache).scores
    assert score.value == pytest.approx(100 * expected, abs=1e-3)
    assert score.low <= score.high
    assert (score.metric, score.p, score.limited) == (mock.metadata.main_score, None, False)


@dataclass
class LocalRun:
    """Three methods on three kinds of local data."""

    data: Path
    folder: Path
    cache: EmbeddingCache
    table: Scores

    def score(self, label, task):
        (score,) = [s for s in self.table.scores if (s.label, s.task) == (label, task)]
        return score


@pytest.fixture(scope="module")
def local_run(lm, make_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    data = make_data(folder / "data")
    tasks = find_tasks(["STSBenchmark", "Banking77Classification", "Cranfield"], data)
    cache = EmbeddingCache(folder / "cache")
    with made_by("kvlens evaluate it"):
        table = evaluate(lm, tasks, folder / "run", METHODS, (1, 2), cache=cache)
    return LocalRun(data, folder / "run", cache, table)


@pytest.mark.slow
def test_rows_of_a_table(local_run):
    table = local_run.table
    assert len({(score.label, score.task) for score in table.scores}) == 9
    assert table.command == "kvlens evaluate it"
    retrieval = local_run.score("mean", "Cranfield")
    assert (retrieval.n, retrieval.unit) == (12, "queries")
    classification = local_run.score("mean", "Banking77Classification")
    assert (classification.n, classification.unit) == (30, "test texts")


def test_differences_are_from_kv_embedding(local_run):
    reference = local_run.score("kv_embedding", "Cranfield")
    other = local_run.score("kv_embedding (no re-routing, bias 2)", "Cranfield")
    assert reference.p is None
    assert other.difference == pytest.approx(other.value - reference.value)
    assert other.difference_low <= other.difference <= other.difference_high
    wide = (other.high - other.low) + (reference.high - reference.low)
    assert 0 < other.difference_high - other.difference_low <= wide
    assert reference.difference_low is None
    assert other.settings["layers"] == []
    assert 0 < other.p <= 1


@pytest.mark.slow
def test_any_method_may_be_the_reference(local_run, lm):
    tasks = find_tasks(["STSBenchmark"], local_run.data)
    folder, cache = local_run.folder.parent / "against", local_run.cache
    table = evaluate(lm, tasks, folder, METHODS, (1, 2), cache=cache, reference="mean")
    plain, mean, _ = table.scores
    before = local_run.score("mean", "STSBenchmark")
    assert table.reference == "mean"
    assert (mean.p, mean.value) == (None, before.value)
    assert plain.difference == pytest.approx(-before.difference)
    assert plain.difference_low == pytest.approx(-before.difference_high)
    assert "worse than mean with" in table.markdown()
    assert Scores.load(folder / "scores.json") == table
    with pytest.raises(InputError, match="`reference` 'echo' is none of `methods`"):
        evaluate(lm, tasks, folder, METHODS, (1, 2), cache=cache, reference="echo")


@pytest.mark.parametrize(("method", "layers"), [("mean", None), ("kv_embedding", (1, 2))])
def test_spearman_by_hand(lm, local_run, method, layers):
    rows = read(local_run.data / "STSBenchmark" / "test.jsonl")
    expected = 100 * spearman_by_hand(Encoder(lm, method, layers), rows)
    assert local_run.score(method, "STSBenchmark").value == pytest.approx(expected, abs=0.01)


def test_ndcg_by_hand(lm, local_run):
    folder = local_run.data / "Cranfield"
    encoder = Encoder(lm, "mean")
    texts = [f"{row['title']} {row['text']}" for row in read(folder / "corpus.jsonl")]
    documents = encoder.encode_document(texts)
    queries = encoder.encode_query([row["text"] for row in read(folder / "queries.jsonl")])
    gains = np.zeros((12, 50))
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        gains[int(query), int(document[1:])] = int(grade)
    similarities = encoder.similarity(queries, documents).numpy()
    best = np.argsort(-similarities, axis=1, kind="stable")[:, :10]
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = (np.sort(gains, axis=1)[:, ::-1][:, :10] * discount).sum(1)
    ndcg = (np.take_along_axis(gains, best, 1) * discount).sum(1) / ideal
    score = local_run.score("mean", "Cranfield")
    assert score.value == pytest.approx(100 * ndcg.mean(), abs=1e-2)


def test_judged_documents_that_are_not_there_are_never_found(lm, local_run, data, tmp_path):
    qrels = data / "Cranfield" / "qrels.tsv"
    qrels.write_text(qrels.read_text() + "0\tlost\t1\n")
    message = "1 of 37 judgements of Cranfield name documents that are not there"
    with pytest.warns(UserWarning, match=message):
        tasks = find_tasks(["Cranfield"], data)
    (lost,) = evaluate(lm, tasks, tmp_path / "lost", ["mean"], cache=local_run.cache).scores
    assert lost.value <= local_run.score("mean", "Cranfield").value


def test_what_is_written(local_run):
    table = local_run.table
    assert Scores.load(local_run.folder / "scores.json") == table
    lines = list(csv.DictReader((local_run.folder / "scores.csv").open()))
    assert [float(line["value"]) for line in lines] == [score.value for score in table.scores]
    text = (local_run.folder / "scores.md").read_text()
    other = local_run.score("kv_embedding (no re-routing, bias 2)", "Cranfield")
    assert f"{other.value:.1f}" in text
    assert "Cranfield ndcg_at_10 (test, 12 queries)" in text
    assert "NOT COMPARABLE" not in text


@pytest.mark.slow
def test_resumes_without_computing(lm, tmp_path, data, cache):
    run = tmp_path / "run"
    names = ["STSBenchmark", "Cranfield"]
    methods = ["kv_embedding", "mean"]
    first = evaluate(lm, find_tasks(names, data), run, methods, (1,), cache=cache)
    calls = Counter()
    handle = lm.base.register_forward_hook(lambda *args: calls.update(["pass"]))
    tasks = find_tasks(names, data)
    empty = EmbeddingCache(tmp_path / "empty")
    again = evaluate(lm, tasks, run, methods, (1,), cache=empty)
    assert again == first
    assert not calls
    assert not any(task.data_loaded for task in tasks)
    methods = ["kv_embedding", "last_token"]
    evaluate(lm, find_tasks(names, data), run, methods, (1,), cache=cache)
    handle.remove()
    assert calls["pass"]


@pytest.mark.slow
def test_no_configuration_is_served_the_score_of_another(lm, tmp_path, data, cache):
    """mteb's own cache would be: its key is the model's name alone."""

    def value(run, method, layers=(1, 2), split=None, model=lm, **options):
        tasks = find_tasks(["STSBenchmark"], data, split)
        folder = tmp_path / run
        (score,) = evaluate(model, tasks, folder, [method], layers, cache=cache, **options).scores
        return score.value

    talker = chat_model()
    configurations = [
        {"method": "kv_embedding"},
        {"method": "kv_embedding", "layers": (0, 3)},
        {"method": "kv_embedding:bias=3"},
        {"method": "kv_embedding:layers=none"},
        {"method": "kv_embedding:document=raw"},
        {"method": "kv_embedding:pooling=mean"},
        {"method": "kv_embedding", "limit": 30},
        {"method": "kv_embedding", "split": "validation"},
        {"method": "kv_embedding", "instructions": True},
        {"method": "kv_embedding", "max_length": 70},
        {"method": "kv_embedding", "model": tiny("llama", seed=1)},
        {"method": "kv_embedding", "model": talker, "chat": True},
        {"method": "kv_embedding", "model": talker, "chat": True, "system": "Sum up."},
        {"method": "mean"},
    ]
    shared = [value("shared", **options) for options in configurations]
    assert shared == [value(f"alone-{i}", **options) for i, options in enumerate(configurations)]
    assert len(set(shared)) == len(configurations)
    assert [value("shared", **options) for options in configurations] == shared
    file = data / "STSBenchmark" / "test.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:40]) + "\n")
    assert value("shared", "mean") == value("fresh", "mean") != shared[-1]


def test_an_instruction_goes_into_the_chat(data):
    limits = Limits()
    (candidate,) = candidates(chat_model(), ["mean"], None, limits, False, chat=True)
    (task,) = find_tasks(["STSBenchmark"], data)
    instructed = candidate.for_task(task, True).method.document
    assert instructed.chat == candidate.encoder.method.document.chat is not None
    assert instructed.prefix.startswith("Instruct: ")


def test_unknown_keywords_are_refused(lm, tmp_path):
    with pytest.raises(TypeError, match="batch_size"):
        evaluate(lm, [], tmp_path, batch_size=3)


@pytest.mark.real
def test_a_real_slice(smollm, tmp_path, cache):
    """News of the Lee corpus with human similarities: SmolLM2's score by scipy from raw vectors."""
    layers = (23, 27, 28, 29)
    rows = lee_corpus()
    folder = tmp_path / "data" / "STSBenchmark"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = find_tasks(["STSBenchmark"], tmp_path / "data")
    (score,) = evaluate(smollm, tasks, tmp_path, layers=layers, cache=cache).scores
    expected = spearman_by_hand(Encoder(smollm, "kv_embedding", layers), rows)
    assert score.value == pytest.approx(100 * expected, abs=0.01)
    assert score.n == 91


@pytest.mark.real
def test_posts_are_rows_fitted_on_calibration_texts(lm, tmp_path, data, cache):
    tasks = find_tasks(["STSBenchmark"], data)
    methods = ["kv_embedding", "mean"]
    posts = (None, "zscore", "whiten")
    table = evaluate(lm, tasks, tmp_path, methods, (1, 2), posts, cache=cache)
    scores = {score.label: score for score in table.scores}
    rows = read(data / "STSBenchmark" / "test.jsonl")
    for kind in ("zscore", "whiten"):
        encoder = Encoder(lm, "mean")
        encoder.fit_post(kind, kvlens.calibration_texts(600))
        expected = 100 * spearman_by_hand(encoder, rows)
        score = scores[f"mean + {kind}"]
        reference = scores[f"kv_embedding + {kind}"]
        assert score.value == pytest.approx(expected, abs=0.05)
        assert score.method_label == "mean"
        assert reference.p is None
        assert score.difference == pytest.approx(score.value - reference.value)
        assert score.post_difference == pytest.approx(score.value - scores["mean"].value)
        assert score.post_difference_low <= score.post_difference <= score.post_difference_high
        assert 0 < score.post_p <= 1
    assert scores["mean"].post_p is None


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def spearman_by_hand(encoder, rows):
    a, b = (
        encoder.encode([row[side] for row in rows]).astype(float)
        for side in ("sentence1", "sentence2")
    )
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return spearmanr(cosines, [row["score"] for row in rows]).statistic


def lee_corpus():
    """The pairs of the first 14 texts, cut to 150 characters, with their human similarity."""
    inside = "gensim/test/test_data/"
    hashes = {
        "lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
        "similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
    }
    corpus, human = (
        fetch_from_wheels([("gensim==4.4.0", inside + name)], sha, cache_dir() / "texts" / name)
        for name, sha in hashes.items()
    )
    texts = [line[:150] for line in corpus.read_text(encoding="latin-1").splitlines()[:14]]
    similar = np.loadtxt(human)
    return [
        {"sentence1": texts[i], "sentence2": texts[j], "score": float(similar[i, j])}
        for i in range(14)
        for j in range(i + 1, 14)
    ]
