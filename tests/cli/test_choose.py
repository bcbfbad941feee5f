"""`kvlens choose` on a small model: one screen, one file, and what is refused."""

import json

import numpy as np
import pytest

import kvlens
from kvlens.embedding.spec import MethodSpec
from kvlens.studies.decision import Decision

QUICK = "--biases 1 --posts none --finalists 6"


def test_texts_of_ones_own_and_the_profile_of_the_run(place, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("profile @llama --texts @texts.txt") == 0
    capsys.readouterr()
    assert run(f"choose @llama --texts @texts.txt --n 60 {QUICK}") == 0
    file = tmp_path / "runs" / "llama" / "decision.json"
    decision = Decision.load(file)
    printed = capsys.readouterr().out
    assert str(decision) in printed
    assert "written to runs/llama/decision.json" in printed
    assert decision.kind == "passages"
    assert sum(decision.n) == 60
    assert decision.of_origin("paper")
    assert decision.command.startswith("kvlens choose ")
    assert len(str(decision).splitlines()) <= 30
    assert max(map(len, str(decision).splitlines()[1:5])) < 160
    before = file.read_bytes()
    assert run(f"choose @llama --texts @texts.txt {QUICK}") == 2
    assert "decision.json exists: give another -o, or --overwrite" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert run(f"verify {file}") == 0
    command = printed.splitlines()[-1].partition("kvlens ")[2]
    command = command.replace("TEXTS", "@texts.txt").replace("VECTORS.npy", "@decided.npy")
    assert run(command) == 0
    encoder = MethodSpec.parse(decision.chosen.method).encoder(kvlens.load(place / "llama"))
    texts = kvlens.read_texts(place / "texts.txt").items
    embedded = np.load(place / "decided.npy")
    assert np.allclose(embedded, encoder.encode(texts), atol=1e-5)


def test_pairs_with_a_method_of_ones_own(place, run, pairs_file, tmp_path, capsys):
    mine = "--methods kv_embedding:layers=1-2:bias=0"
    line = f"choose @gpt2 --pairs {pairs_file} {QUICK} {mine} -o {tmp_path}/mine.json --json"
    assert run(line) == 0
    answer = json.loads(capsys.readouterr().out)
    decision = Decision.load(tmp_path / "mine.json")
    assert answer == decision.model_dump(mode="json")
    assert decision.kind == "pairs"
    assert decision.data.endswith(pairs_file.name)
    assert decision.of_origin("given")[0].method == "kv_embedding:layers=1-2:bias=0"


def test_a_dry_run_tells_and_writes_nothing(run, pairs_address, tmp_path, capsys):
    assert (
        run(f"choose @gpt2 --pairs {pairs_address} {QUICK} -o {tmp_path}/dry.json --dry-run") == 0
    )
    out = capsys.readouterr().out
    assert "tokens in all passes" in out
    assert "nothing was written" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--texts @texts.txt --pairs @texts.txt", "--texts and --pairs both judge: give one"),
        ("--texts @texts.txt --n 20", "20 passages judge, at least 40 are needed: give more"),
        ("--texts @texts.txt --widths 99", "a window of 99 layers does not fit into 4 layers"),
        ("--texts @texts.txt --posts whitn", "--posts is 'whitn'"),
        ("--texts @texts.txt --methods nothing", "unknown method 'nothing'"),
        ("--profile @texts.txt", "texts.txt"),
    ],
)
def test_what_is_refused(place, run, tmp_path, capsys, options, problem):
    assert run(f"choose @llama {options} -o {tmp_path}/none.json") == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
