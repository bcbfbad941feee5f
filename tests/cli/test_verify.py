"""`kvlens verify`: its answer, its exit codes, and a run folder made by the commands."""

import json

import pytest

TEXTS = "--texts @texts.txt --n 60"


@pytest.fixture(scope="module")
def made(place, run):
    """A run folder with what `kvlens profile` leaves."""
    assert run(f"profile @llama {TEXTS} -o @verified --save-trace") == 0
    return place / "verified"


def test_a_run_agrees(made, run, capsys):
    assert run("verify @verified --strict") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1].endswith(" checks agree.")
    assert run("verify @verified/layers.json --json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["counts"]["differ"] == data["counts"]["versions_differ"] == 0
    assert {check["verdict"] for check in data["checks"]} == {"agrees"}
    assert {check["file"] for check in data["checks"]} == {"layers.json"}


def test_exit_codes(made, run, capsys):
    path = made / "layers.json"
    before = path.read_text()
    content = json.loads(before)
    try:
        path.write_text(json.dumps({**content, "versions": {"torch": "2.1"}}))
        assert run("verify @verified") == 0
        assert "made with torch 2.1, here " in capsys.readouterr().out
        assert run("verify @verified --strict") == 1
        path.write_text(before[:-100])
        assert run("verify @verified") == 1
        assert "1 differs" in capsys.readouterr().out
    finally:
        path.write_text(before)


@pytest.mark.parametrize("line", ["verify @absent", "verify @texts.txt", "verify @llama"])
def test_bad_input_is_one_line_and_exit_2(run, line, capsys):
    assert run(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.slow
def test_everything_that_the_commands_leave_agrees(place, run, pairs_file, capsys):
    """One folder with the files of every command."""
    pytest.importorskip("mteb")
    folder = "@all-agree"
    layers = f"--layers {folder}/layers.json"
    profiles = f"--profiles {folder}/profile.json"
    task = place / "tasks" / "STSBenchmark" / "test.jsonl"
    task.parent.mkdir(parents=True)
    task.write_text(pairs_file.read_text())
    evaluate = f"evaluate @llama {layers} --tasks STSBenchmark --data-dir @tasks -o {folder}"
    for line in (
        f"profile @llama {TEXTS} -o {folder} --save-trace",
        f"sweep @llama --pairs {pairs_file} -o {folder}/sweep.json {profiles}",
        f"embed @llama {layers} -i @texts.txt -o {folder}/vectors.npy",
        f"embed @llama {layers} -i @rows.csv --column body -o {folder}/vectors.parquet",
        f"embed @llama {layers} -i @texts.txt -o {folder}/vectors.safetensors --kind query",
        f"{evaluate} --methods kv_embedding,mean",
        f"{evaluate} --methods kv_embedding --limit 20",
        f"report {folder} --texts @texts.txt --n 60",
        f"lens @llama {layers} {TEXTS} -o {folder}/lens",
    ):
        assert run(line) == 0, line
    capsys.readouterr()
    assert run(f"verify {folder} --json") == 0
    data = json.loads(capsys.readouterr().out)
    untold = [check for check in data["checks"] if check["verdict"] != "agrees"]
    assert {check["reason"] for check in untold} <= {"a geometry records no hash of its texts"}
    files = {check["file"] for check in data["checks"]}
    assert {"results", "limit-20/results", "scores-limit-20.json", "lens/kv_lens.json"} <= files
    assert {"vectors.npy", "vectors.parquet", "vectors.safetensors", "report.html"} <= files
