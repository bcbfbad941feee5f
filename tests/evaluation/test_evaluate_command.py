"""`kvlens evaluate`: what it refuses, each in one line, and what it prints."""

import json
import subprocess
import sys

import pytest

from kvlens.cli import main
from kvlens.evaluation.scores import Scores


@pytest.fixture
def refused(saved_model, data, tmp_path, capsys):
    """Run the command on the local data and give its one line of refusal."""

    def run(*options, tasks="STSBenchmark", folder=data):
        command = ["evaluate", str(saved_model), "--tasks", tasks, "-o", str(tmp_path / "run")]
        if folder:
            command += ["--data-dir", str(folder)]
        capsys.readouterr()
        assert main([*command, "--methods", "mean", *options]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    return run


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("SummEval", "SummEval is of the kind Summarization (cosine_spearman), which is not"),
        ("CIFAR10", "CIFAR10 is of the kind ImageClassification"),
    ],
)
def test_kinds_that_are_not_supported(refused, tasks, message):
    assert message in refused(tasks=tasks, folder="")


@pytest.mark.slow
def test_unknown_tasks_and_missing_folders(refused, tmp_path):
    message = refused(tasks="STSBenchmrk")
    assert "unknown task 'STSBenchmrk'; the nearest: STSBenchmark, " in message
    assert "nowhere: no such folder" in refused(folder=tmp_path / "nowhere")
    message = "has no folder of that name (it has Banking77Classification, Cranfield"
    assert message in refused(tasks="STS12")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--split", "dev", "has no split 'dev'; it has"),
        ("--post", "pca", "--post takes none, center, project_mean, zscore"),
        ("--lengths", "256,x", "--lengths takes numbers"),
        ("--limit", "1", "every score of STSBenchmark's 1 pairs is the same"),
        ("--methods", "kv_embedding", "kv_embedding needs layers"),
        ("--methods", "mean:raw", "settings are written as in"),
        (
            "--methods",
            "kv_embedding:layers=x",
            "layers=x: give none, or layers such as 7-10",
        ),
        ("--methods", "kv_embedding:layers=2-1", "layers=2-1: give none"),
        ("--methods", "aligned_wva:depth=x", "`depth` needs two shares"),
        (
            "--methods",
            "value_aggregation:depth=[0.9,0.1]",
            "`depth` needs two shares of the layers, 0 <= from <= to <= 1, not [0.9, 0.1]",
        ),
    ],
)
def test_options_that_cannot_be_used(refused, option, value, message):
    assert message in refused(option, value)


def test_folders_to_write(refused, tmp_path):
    message = refused("--methods", "median", "-o", str(tmp_path / "never"))
    assert "unknown method 'median'" in message
    assert not (tmp_path / "never").exists()
    (tmp_path / "taken").write_text("")
    assert "cannot write" in refused("-o", str(tmp_path / "taken"))


@pytest.mark.slow
def test_pairs_that_cannot_be_used(refused, data):
    file = data / "STSBenchmark" / "test.jsonl"
    good = file.read_text().splitlines()

    def write(*lines):
        file.write_text("\n".join(lines))

    write(*good[:6], '{"sentence1": "a", "score": 1}', *good[7:])
    assert "test.jsonl: line 7 has no field 'sentence2'; it has: 'sentence1', 'score'" in refused()
    write(*(line.replace("sentence2", "second") for line in good))
    message = "test.jsonl: line 1 has no field 'sentence2'; it has: 'sentence1', 'second', 'score'"
    assert message in refused()
    write(*good[:3], '{"sentence1": "a", "sentence2": "b", "score": "high"}')
    assert "test.jsonl: line 4 has the score 'high', no number" in refused()
    write(*good[:4], "{broken")
    assert "test.jsonl: line 5 is not valid JSON" in refused()
    write(*(json.dumps({"sentence1": i, "sentence2": 1, "score": i}) for i in range(20)))
    (file.parent / "validation.jsonl").unlink()  # by whose text numbers would be read as text
    assert "a text of STSBenchmark is 0, no string" in refused()
    # Without the other split, by whose numbers strings would be read as numbers.
    write(*(line.replace('"score": ', '"score": "').replace("}", '"}') for line in good))
    assert "test.jsonl: line 1 has the score '" in refused()


def test_judgements_that_cannot_be_used(refused, data):
    folder = data / "Cranfield"
    qrels = folder / "qrels.tsv"
    lines = qrels.read_text()
    qrels.write_text(lines + "99\td1\t1\n")
    assert "qrels.tsv, line 38: no query '99' in queries.jsonl" in refused(tasks="Cranfield")
    qrels.write_text("1\td999\t1\n")
    assert "none of its 1 judgements names a document" in refused(tasks="Cranfield")
    qrels.write_text(lines + "1\td1\n")
    assert "qrels.tsv, line 38: needs query-id" in refused(tasks="Cranfield")
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "title": "x"}\n')
    assert "corpus.jsonl: line 1 has no field 'text'" in refused(tasks="Cranfield")


@pytest.mark.slow
def test_without_mteb(tmp_path):
    code = (
        "import sys; sys.modules['mteb'] = None; from kvlens.cli import main; "
        f"sys.exit(main(['evaluate', 'smollm2-135m', '-o', {str(tmp_path)!r}]))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == "kvlens: evaluation needs mteb: pip install 'kvlens[eval]'\n"


@pytest.mark.slow
def test_what_is_printed(saved_model, tmp_path, data, capsys):
    command = f"evaluate {saved_model} --tasks STSBenchmark,Cranfield --data-dir {data}"
    options = f"--layers 1-2 --methods kv_embedding,mean -o {tmp_path / 'run'}"
    arguments = f"{command} {options}".split()
    assert main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "tokens in all passes" in out or "no pass is run" in out
    assert not (tmp_path / "run").exists()
    assert main(arguments) == 0
    assert "| mean" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    table = Scores.model_validate_json(capsys.readouterr().out)
    assert table.command.startswith("kvlens evaluate")
