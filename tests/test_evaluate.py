import csv
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import tiny
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr
from sklearn.metrics import average_precision_score

import kvlens
from kvlens import Encoder, InputError
from kvlens.cli import main
from kvlens.embedding.cache import EmbeddingCache
from kvlens.evaluation.adapter import mteb_encoder, register
from kvlens.evaluation.kinds import unit
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.scores import Scores
from kvlens.evaluation.significance import bootstrap, holm, p_value, statistic
from kvlens.evaluation.tasks import find_tasks
from kvlens.store.files import cache_dir
from kvlens.store.provenance import made_by
from kvlens.store.wheels import fetch_from_wheels

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
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402

WORDS = [
    "river",
    "stone",
    "cloud",
    "engine",
    "paper",
    "winter",
    "garden",
    "signal",
    "copper",
    "violin",
    "harbour",
    "lantern",
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def lm():
    return tiny("llama")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sentence(rng):
    return " ".join(rng.choice(WORDS, rng.integers(2, 7)))


@pytest.fixture
def data(tmp_path):
    """Local folders in mteb's schema and in BEIR's."""
    rng, root = np.random.default_rng(0), tmp_path / "data"
    pairs = [
        {"sentence1": sentence(rng), "sentence2": sentence(rng), "score": int(rng.integers(0, 6))}
        for _ in range(60)
    ]
    texts = [
        {"text": f"{WORDS[y]} {sentence(rng)}", "label": y} for y in range(4) for _ in range(15)
    ]
    documents = [{"_id": f"d{i}", "title": WORDS[i % 12], "text": sentence(rng)} for i in range(50)]
    queries = [{"_id": str(i), "text": sentence(rng)} for i in range(12)]
    for name, rows in {
        "STSBenchmark/test": pairs,
        "STSBenchmark/validation": pairs[:20],
        "Banking77Classification/train": texts[::2],
        "Banking77Classification/test": texts[1::2],
        "Cranfield/corpus": documents,
        "Cranfield/queries": queries,
    }.items():
        path = root / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    judged = [f"{i}\td{3 * i + j}\t{j + 1}" for i in range(12) for j in range(3)]
    (root / "Cranfield" / "qrels.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n"
    )
    return root


class Plain(AbsEncoder):
    """What mteb is given by hand: one text at a time, straight from the encoder."""

    def __init__(self, encoder):
        self.encoder, self.mteb_model_meta = (
            encoder,
            mteb.models.ModelMeta.create_empty({"name": "plain/plain"}),
        )

    def encode(self, inputs, *, prompt_type=None, **options):
        name = "query" if str(getattr(prompt_type, "value", "")) == "query" else "document"
        return np.stack(
            [self.encoder.encode(t, prompt_name=name) for batch in inputs for t in batch["text"]]
        )


@pytest.mark.parametrize(
    "mock",
    [
        MockSTSTask,
        MockMultilingualSTSTask,
        MockClassificationTask,
        MockPairClassificationTask,
        MockRetrievalTask,
        MockRerankingTask,
        MockClusteringTask,
    ],
)
def test_every_kind_of_mock_task_scores_as_mteb_does_by_hand(mock, lm, tmp_path):
    encoder = Encoder(lm, "kv_embedding", (1, 2))
    expected = mteb.evaluate(
        Plain(encoder), mock(), cache=None, co2_tracker=False, show_progress_bar=False
    )
    expected = expected.task_results[0].get_score()
    table = evaluate(
        lm, [mock()], tmp_path, layers=(1, 2), cache=EmbeddingCache(tmp_path / "cache")
    )
    (score,) = table.scores
    assert score.value == pytest.approx(100 * expected, abs=1e-3)
    assert score.low <= score.high
    assert (score.metric, score.p, score.limited) == (mock.metadata.main_score, None, False)


def test_adapter(lm, tmp_path, data):
    calls = Counter()
    handle = lm.base.register_forward_hook(lambda *args: calls.update(["pass"]))
    encoder = Encoder(lm, "kv_embedding", (1, 2))
    model = mteb_encoder(encoder, EmbeddingCache(tmp_path))
    batches = [{"text": ["b", "", "a longer text"]}, {"text": ["b", "c"]}]
    task = MockSTSTask()
    vectors = model.encode(
        batches, task_metadata=task.metadata, hf_split="test", hf_subset="default"
    )
    assert calls["pass"] == 1  # one batch of distinct texts
    assert vectors.dtype == np.float32
    expected = encoder.encode(["b", "", "a longer text", "b", "c"])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    again = model.encode(batches, task_metadata=task.metadata, hf_split="test", hf_subset="default")
    handle.remove()
    assert calls["pass"] == 2  # the one of `expected`
    np.testing.assert_array_equal(again, vectors)
    kinds = mteb.types.PromptType
    asked = model.encode(
        batches, task_metadata=task.metadata, hf_split="t", hf_subset="d", prompt_type=kinds.query
    )
    np.testing.assert_allclose(asked[0], encoder.encode_query("b"), atol=1e-5)
    assert np.abs(asked - vectors).max() > 0.01


def test_local_data_end_to_end(lm, tmp_path, data):
    tasks = find_tasks(["STSBenchmark", "Banking77Classification", "Cranfield"], data)
    specs = ["kv_embedding", "mean", "kv_embedding:layers=none:bias=2"]
    cache = EmbeddingCache(tmp_path / "cache")
    with made_by("kvlens evaluate it"):
        table = evaluate(lm, tasks, tmp_path / "run", specs, (1, 2), cache=cache)
    assert table.command == "kvlens evaluate it"
    found = {(s.label, s.task): s for s in table.scores}
    assert len(found) == 9
    rows = read(data / "STSBenchmark" / "test.jsonl")
    for method, label in (
        (Encoder(lm, "mean"), "mean"),
        (Encoder(lm, "kv_embedding", (1, 2)), "kv_embedding"),
    ):
        a, b = (
            method.encode([row[k] for row in rows]).astype(float)
            for k in ("sentence1", "sentence2")
        )
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected = 100 * spearmanr(cosines, [row["score"] for row in rows]).statistic
        assert found[label, "STSBenchmark"].value == pytest.approx(expected, abs=0.01)
    qrels = data / "Cranfield" / "qrels.tsv"
    qrels.write_text(qrels.read_text() + "0\tlost\t1\n")
    with pytest.warns(
        UserWarning, match="1 of 37 judgements of Cranfield name documents that are not there"
    ):
        (tasks[2],) = find_tasks(["Cranfield"], data)
    lost = evaluate(lm, tasks[2:], tmp_path / "lost", ["mean"], cache=cache).scores[0]
    assert lost.value <= found["mean", "Cranfield"].value
    # NDCG@10 by hand, from all cosines.
    encoder = Encoder(lm, "mean")
    corpus = read(data / "Cranfield" / "corpus.jsonl")
    documents = encoder.encode_document([f"{row['title']} {row['text']}" for row in corpus])
    queries = encoder.encode_query(
        [row["text"] for row in read(data / "Cranfield" / "queries.jsonl")]
    )
    gains = np.zeros((12, 50))
    for line in qrels.read_text().splitlines()[1:-1]:
        query, document, grade = line.split("\t")
        gains[int(query), int(document[1:])] = int(grade)
    best = np.argsort(-encoder.similarity(queries, documents).numpy(), axis=1, kind="stable")[
        :, :10
    ]
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = (np.sort(gains, axis=1)[:, ::-1][:, :10] * discount).sum(1)
    ndcg = (np.take_along_axis(gains, best, 1) * discount).sum(1) / ideal
    assert found["mean", "Cranfield"].value == pytest.approx(100 * ndcg.mean(), abs=1e-2)
    assert (found["mean", "Cranfield"].n, found["mean", "Cranfield"].unit) == (12, "queries")
    assert (
        found["mean", "Banking77Classification"].n,
        found["mean", "Banking77Classification"].unit,
    ) == (
        30,
        "test texts",
    )
    assert found["kv_embedding", "Cranfield"].p is None
    other = found["kv_embedding (no re-routing, bias 2)", "Cranfield"]
    assert other.difference == pytest.approx(other.value - found["kv_embedding", "Cranfield"].value)
    assert other.settings["layers"] == []
    assert 0 < other.p <= 1
    # What was written.
    assert Scores.load(tmp_path / "run" / "scores.json") == table
    lines = list(csv.DictReader((tmp_path / "run" / "scores.csv").open()))
    assert [float(line["value"]) for line in lines] == [s.value for s in table.scores]
    text = (tmp_path / "run" / "scores.md").read_text()
    assert f"{other.value:.1f}" in text
    assert "Cranfield ndcg_at_10 (test, 12 queries)" in text
    assert "NOT COMPARABLE" not in text


def test_resumes_without_computing(lm, tmp_path, data):
    cache, run = EmbeddingCache(tmp_path / "cache"), tmp_path / "run"
    names = ["STSBenchmark", "Cranfield"]
    first = evaluate(lm, find_tasks(names, data), run, ["kv_embedding", "mean"], (1,), cache=cache)
    calls = Counter()
    handle = lm.base.register_forward_hook(lambda *args: calls.update(["pass"]))
    tasks = find_tasks(names, data)
    again = evaluate(
        lm, tasks, run, ["kv_embedding", "mean"], (1,), cache=EmbeddingCache(tmp_path / "empty")
    )
    assert again == first
    assert not calls
    assert not any(task.data_loaded for task in tasks)
    evaluate(lm, find_tasks(names, data), run, ["kv_embedding", "last_token"], (1,), cache=cache)
    handle.remove()
    assert calls["pass"]


def test_no_configuration_is_served_the_score_of_another(lm, tmp_path, data):
    """mteb's own cache would be: its key is the model's name alone."""

    def value(
        run,
        methods,
        layers=(1, 2),
        limit=None,
        split=None,
        instructions=False,
        max_length=None,
        model=lm,
    ):
        tasks = find_tasks(["STSBenchmark"], data, split)
        options = {"limit": limit, "instructions": instructions, "max_length": max_length}
        cache = EmbeddingCache(tmp_path / "cache")
        return (
            evaluate(model, tasks, tmp_path / run, [methods], layers, cache=cache, **options)
            .scores[0]
            .value
        )

    other = tiny("llama", seed=1)
    asked = [
        {"methods": "kv_embedding"},
        {"methods": "kv_embedding", "layers": (0, 3)},
        {"methods": "kv_embedding:bias=3"},
        {"methods": "kv_embedding:layers=none"},
        {"methods": "kv_embedding:document=raw"},
        {"methods": "kv_embedding:pooling=mean"},
        {"methods": "kv_embedding", "limit": 30},
        {"methods": "kv_embedding", "split": "validation"},
        {"methods": "kv_embedding", "instructions": True},
        {"methods": "kv_embedding", "max_length": 70},
        {"methods": "kv_embedding", "model": other},
        {"methods": "mean"},
    ]
    shared = [value("shared", **options) for options in asked]
    assert shared == [value(f"alone-{i}", **options) for i, options in enumerate(asked)]
    assert len(set(shared)) == len(asked)
    assert [value("shared", **options) for options in asked] == shared
    file = data / "STSBenchmark" / "test.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:40]) + "\n")
    assert value("shared", "mean") == value("fresh", "mean") != shared[-1]


def test_limit_is_marked_everywhere(lm, tmp_path, data):
    tasks = find_tasks(["STSBenchmark", "Banking77Classification", "Cranfield"], data)
    cache = EmbeddingCache(tmp_path / "cache")
    table = evaluate(lm, tasks, tmp_path / "run", ["mean"], limit=3, cache=cache)
    assert [(s.n, s.limited) for s in table.scores] == [(3, True)] * 3
    assert "NOT COMPARABLE" in (tmp_path / "run" / "scores-limit-3.md").read_text()
    assert not (tmp_path / "run" / "scores.json").exists()
    assert all("limit-3" in str(path) for path in (tmp_path / "run").rglob("*.json"))
    assert (
        len(tasks[2].dataset["default"]["test"]["corpus"]) == 9 + 30
    )  # the judged, and 10 others a query
    whole = evaluate(
        lm, tasks, tmp_path / "run", ["mean"], cache=cache
    )  # the same task objects, whole again
    assert [s.n for s in whole.scores] == [60, 30, 12]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=12),
    st.integers(0, 99),
)
def test_statistics_of_resamples(pairs, seed):
    """Counts as weights are the same as the items repeated, ties included."""
    x = np.array(pairs, dtype=float).T
    n = x.shape[1]
    chosen = np.random.default_rng(seed).integers(n, size=(5, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in chosen])
    for metric in ("cosine_spearman", "accuracy", "max_ap"):
        labelled = np.vstack([x[0] > 2, x]) if metric == "max_ap" else x
        for got, row in zip(statistic(labelled, counts, metric), chosen, strict=True):
            sample = labelled[:, row]
            if metric == "accuracy":
                expected = sample[0].mean()
            elif metric == "max_ap":
                expected = (
                    max(average_precision_score(sample[0], s) for s in sample[1:])
                    if sample[0].any()
                    else np.nan
                )
            elif len(set(sample[0])) == 1 or len(set(sample[1])) == 1:
                expected = np.nan
            else:
                expected = spearmanr(*sample).statistic
            np.testing.assert_allclose(got, expected, atol=1e-9)


def test_bootstrap_interval_is_the_normal_one_for_a_mean():
    x = np.random.default_rng(1).normal(3, 2, (1, 400))
    low, high = np.percentile(bootstrap([x], "accuracy"), (2.5, 97.5))
    half = norm.ppf(0.975) * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)
    both = bootstrap([x, x + 1], "accuracy")
    assert both.mean() == pytest.approx(x.mean() + 0.5, abs=0.05)
    assert both.std() == pytest.approx(
        x.std() / 20 / np.sqrt(2), rel=0.1
    )  # parts are resampled independently


def test_bootstrap_interval_of_a_correlation():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 300))
    x[1] += x[0]
    got = np.percentile(bootstrap([x], "cosine_spearman"), (2.5, 97.5))
    draws = np.random.default_rng(3).integers(300, size=(2000, 300))
    expected = np.percentile([spearmanr(*x[:, row]).statistic for row in draws], (2.5, 97.5))
    assert got == pytest.approx(expected, abs=0.015)


def test_significance():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1, 500))
    b = a + rng.normal(
        0.05, 0.1, a.shape
    )  # intervals overlap widely, the paired difference is plain
    one, two = bootstrap([a], "x"), bootstrap([b], "x")
    assert np.percentile(one, 97.5) > np.percentile(two, 2.5)
    assert p_value(two - one) < 0.002
    assert p_value(one - one) == 1
    undefined = np.where(np.arange(2000) < 1000, np.nan, 1.0)  # draws without a score say nothing
    assert p_value(undefined) == pytest.approx(2 / 1001)
    assert p_value(np.full(2000, np.nan)) == 1
    # Under no difference, p below 0.05 comes about one time in twenty.
    noise = (rng.normal(size=(2, 1, 100)) for _ in range(300))
    rejected = [
        p_value(bootstrap([x], "x", 400) - bootstrap([y], "x", 400)) < 0.05 for x, y in noise
    ]
    assert 0.02 < np.mean(rejected) < 0.09


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_bad_input(tmp_path, data, lm, capsys):
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    capsys.readouterr()

    def refused(*options, tasks="STSBenchmark", folder=data):
        local = ["--data-dir", str(folder)] if folder else []
        command = [
            "evaluate",
            str(tmp_path / "model"),
            "--tasks",
            tasks,
            *local,
            "-o",
            str(tmp_path / "run"),
        ]
        assert main([*command, "--methods", "mean", *options]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "unknown task 'STSBenchmrk'; the nearest: STSBenchmark, " in refused(tasks="STSBenchmrk")
    assert "nowhere: no such folder" in refused(folder=tmp_path / "nowhere")
    assert "has no folder of that name (it has Banking77Classification, Cranfield" in refused(
        tasks="STS12"
    )
    assert "SummEval is of the kind Summarization (cosine_spearman), which is not" in refused(
        tasks="SummEval", folder=""
    )
    assert "CIFAR10 is of the kind ImageClassification" in refused(tasks="CIFAR10", folder="")
    assert "has no split 'dev'; it has" in refused("--split", "dev")
    assert "--post takes none, center, zscore, whiten, not pca" in refused("--post", "pca")
    assert "--lengths takes numbers" in refused("--lengths", "256,x")
    assert "unknown method 'median'" in refused(
        "--methods", "median", "-o", str(tmp_path / "never")
    )
    assert "kv_embedding needs layers" in refused("--methods", "kv_embedding")
    assert "settings are written as in" in refused("--methods", "mean:raw")
    assert "layers=x: give none, or layers such as 7-10" in refused(
        "--methods", "kv_embedding:layers=x"
    )
    assert "layers=2-1: give none" in refused("--methods", "kv_embedding:layers=2-1")
    assert "depth needs two shares" in refused("--methods", "aligned_wva:depth=x")
    assert "depth needs two shares of the layers, 0 <= from <= to <= 1, not [0.9, 0.1]" in refused(
        "--methods", "value_aggregation:depth=[0.9,0.1]"
    )
    assert not (tmp_path / "never").exists()
    (tmp_path / "taken").write_text("")
    assert "cannot write" in refused("-o", str(tmp_path / "taken"))
    file = data / "STSBenchmark" / "test.jsonl"
    good = file.read_text().splitlines()
    file.write_text("\n".join([*good[:6], '{"sentence1": "a", "score": 1}', *good[7:]]))
    assert "test.jsonl, line 7: no column 'sentence2'; it has sentence1, score" in refused()
    file.write_text("\n".join(good).replace("sentence2", "second"))
    assert "test.jsonl, line 1: no column 'sentence2'; it has sentence1, second, score" in refused()
    file.write_text("\n".join([*good[:3], '{"sentence1": "a", "sentence2": "b", "score": "high"}']))
    assert "test.jsonl, line 4: column 'score' is 'high', no number" in refused()
    (file.parent / "validation.jsonl").unlink()  # by whose numbers strings would be read as numbers
    file.write_text("\n".join(good).replace('"score": ', '"score": "').replace("}", '"}'))
    assert "test.jsonl, line 1: column 'score' is '" in refused()
    file.write_text(
        "\n".join(json.dumps({"sentence1": i, "sentence2": 1, "score": i}) for i in range(20))
    )
    assert "a text of STSBenchmark is 0, no string" in refused()
    file.write_text("\n".join(good))
    assert "every score of STSBenchmark's 1 pairs is the same" in refused("--limit", "1")
    file.write_text("\n".join([*good[:4], "{broken"]))
    assert "test.jsonl, line 5: no JSON object" in refused()
    qrels = data / "Cranfield" / "qrels.tsv"
    lines = qrels.read_text()
    qrels.write_text(lines + "99\td1\t1\n")
    assert "qrels.tsv, line 38: no query '99' in queries.jsonl" in refused(tasks="Cranfield")
    qrels.write_text("1\td999\t1\n")
    assert "none of its 1 judgements names a document" in refused(tasks="Cranfield")
    qrels.write_text(lines + "1\td1\n")
    assert "qrels.tsv, line 38: needs query-id" in refused(tasks="Cranfield")
    (data / "Cranfield" / "corpus.jsonl").write_text('{"_id": "d1", "title": "x"}\n')
    assert "corpus.jsonl: line 1 has no field 'text'" in refused(tasks="Cranfield")


@pytest.mark.parametrize("name", ["Cranfield", "MSMARCO"])
def test_a_split_of_a_beir_folder_is_its_own_file(data, name):
    folder = (data / "Cranfield").rename(data / name) if name != "Cranfield" else data / name
    lines = (folder / "qrels.tsv").read_text().splitlines(keepends=True)
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("".join(lines[:13]))
    (folder / "qrels" / "dev.tsv").write_text("".join(lines[:1] + lines[13:]))

    def asked(split):
        (task,) = find_tasks([name], data, split)
        task.load_data()
        (own,) = task.eval_splits
        return own, sorted(task.dataset["default"][own]["relevant_docs"], key=int)

    first, rest = [str(i) for i in range(4)], [str(i) for i in range(4, 12)]
    assert asked("dev") == ("dev", rest)
    assert asked(None) == (
        ("test", first) if name == "Cranfield" else ("dev", rest)
    )  # MSMARCO's own split
    with pytest.raises(InputError, match=r"has no qrels/other.tsv"):
        find_tasks([name], data, "other")


def test_pairs_in_one_row_are_unfolded(lm, tmp_path):
    plain, nested = MockPairClassificationTask(), MockPairClassificationTask()
    plain.load_data()
    (split,) = plain.eval_splits
    row = plain.dataset[split].to_dict()
    nested.load_data = lambda **options: vars(nested).update(
        dataset={split: [row]}, data_loaded=True
    )
    a, b = (
        evaluate(
            lm, [task], tmp_path / str(i), ["mean"], cache=EmbeddingCache(tmp_path / "cache")
        ).scores[0]
        for i, task in enumerate((plain, nested))
    )
    assert (a.value, a.n) == (b.value, b.n)


def test_without_mteb(tmp_path):
    code = (
        "import sys; sys.modules['mteb'] = None; from kvlens.cli import main; "
        f"sys.exit(main(['evaluate', 'smollm2-135m', '-o', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "kvlens: evaluation needs mteb: pip install 'kvlens[eval]'\n"


def test_benchmark_leaves_out_what_is_not_supported():
    with pytest.warns(UserWarning, match="left out: SummEval"):
        tasks = find_tasks(["MTEB(eng, v1)"])
    assert {"STS12", "Banking77Classification", "NFCorpus"} <= {
        task.metadata.name for task in tasks
    }


def test_an_aggregate_is_its_parts():
    tasks = find_tasks(["CQADupstackRetrieval"])
    assert len(tasks) == 12
    assert {unit(task) for task in tasks} == {"queries"}


def test_on_the_terminal(lm, tmp_path, data, capsys):
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    command = [
        "evaluate",
        str(tmp_path / "model"),
        "--tasks",
        "STSBenchmark,Cranfield",
        "--data-dir",
        str(data),
    ]
    command += [
        "--layers",
        "1-2",
        "--methods",
        "kv_embedding,mean",
        "-o",
        str(tmp_path / "run"),
        "--split",
        "validation",
    ]
    assert main([*command[:-2]]) == 0
    assert "| mean" in capsys.readouterr().out
    assert main([*command[:-2], "--json"]) == 0
    assert Scores.model_validate_json(capsys.readouterr().out).command.startswith("kvlens evaluate")


def test_mteb_loads_it_by_name(lm, tmp_path):
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    name = f"kvlens/{tmp_path / 'model'}:mean"
    meta = register(name)
    model = mteb.get_model(name)
    task = MockSTSTask()
    result = mteb.evaluate(
        model, task, cache=mteb.ResultCache(tmp_path), co2_tracker=False, show_progress_bar=False
    )
    expected = mteb.evaluate(
        Plain(Encoder(lm, "mean")), MockSTSTask(), cache=None, show_progress_bar=False
    )
    assert result.task_results[0].get_score() == pytest.approx(
        expected.task_results[0].get_score(), abs=1e-5
    )
    (written,) = tmp_path.glob("results/kvlens__model/*/experiments/*/MockSTSTask.json")
    assert meta.experiment_kwargs["hash"] in str(written)


@pytest.mark.real
def test_a_real_slice(smollm, tmp_path):
    """News of the Lee corpus with human similarities, as an STS task: SmolLM2's score, by scipy from raw vectors."""
    inside = "gensim/test/test_data/"
    hashes = {
        "lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
        "similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
    }
    place = cache_dir() / "texts"
    corpus, human = (
        fetch_from_wheels([("gensim==4.4.0", inside + n)], sha, place / n)
        for n, sha in hashes.items()
    )
    texts = [line[:150] for line in corpus.read_text(encoding="latin-1").splitlines()[:14]]
    similar = np.loadtxt(human)
    pairs = [(i, j) for i in range(14) for j in range(i + 1, 14)]
    folder = tmp_path / "data" / "STSBenchmark"
    folder.mkdir(parents=True)
    rows = [
        {"sentence1": texts[i], "sentence2": texts[j], "score": float(similar[i, j])}
        for i, j in pairs
    ]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tasks = find_tasks(["STSBenchmark"], tmp_path / "data")
    cache = EmbeddingCache(tmp_path / "cache")
    (score,) = evaluate(smollm, tasks, tmp_path, layers=(23, 27, 28, 29), cache=cache).scores
    vectors = Encoder(smollm, "kv_embedding", (23, 27, 28, 29)).encode(texts).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = spearmanr(
        [vectors[i] @ vectors[j] for i, j in pairs], [row["score"] for row in rows]
    ).statistic
    assert score.value == pytest.approx(100 * expected, abs=0.01)
    assert score.n == 91


@pytest.mark.real
def test_posts_are_rows_fitted_on_calibration_texts(lm, tmp_path, data):
    tasks = find_tasks(["STSBenchmark"], data)
    cache = EmbeddingCache(tmp_path / "cache")
    table = evaluate(
        lm,
        tasks,
        tmp_path,
        ["kv_embedding", "mean"],
        (1, 2),
        (None, "zscore", "whiten"),
        cache=cache,
    )
    rows = read(data / "STSBenchmark" / "test.jsonl")
    found = {s.label: s for s in table.scores}
    for kind in ("zscore", "whiten"):
        encoder = Encoder(lm, "mean")
        encoder.fit_post(kind, kvlens.calibration_texts(600))
        a, b = (
            encoder.encode([row[k] for row in rows]).astype(float)
            for k in ("sentence1", "sentence2")
        )
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected = 100 * spearmanr(cosines, [row["score"] for row in rows]).statistic
        assert found[f"mean + {kind}"].value == pytest.approx(expected, abs=0.05)
        base = found[f"kv_embedding + {kind}"]
        assert base.p is None
        assert found[f"mean + {kind}"].difference == pytest.approx(
            found[f"mean + {kind}"].value - base.value
        )
