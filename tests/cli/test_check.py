"""`kvlens check`: its verdict is its exit code, and its file."""

import json
import shlex

import pytest
from families import family

import kvlens
from kvlens.cli import main
from kvlens.rerouting import prefix


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_answers_with_its_exit_code(run, capsys):
    assert run("check @llama") == 0
    assert "passed: 5 texts" in capsys.readouterr().out
    assert run("check @llama --tolerance 1e-12 --overwrite") == 1
    assert "FAILED" in capsys.readouterr().out


def test_it_writes_what_it_found(run, place, tmp_path, capsys):
    assert run("check @llama -o a.json --json") == 0
    answer = json.loads(capsys.readouterr().out)
    result = kvlens.open(tmp_path / "a.json")
    assert answer.pop("passed") is True
    assert answer == json.loads((tmp_path / "a.json").read_text())
    assert result.command == shlex.join(f"kvlens check {place}/llama -o a.json --json".split())
    assert result.passed
    assert run("verify a.json") == 0


def test_a_failed_check_is_written_too(run, tmp_path):
    assert run("check @llama --tolerance 0") == 1
    assert not kvlens.open(tmp_path / "check.json").passed


def test_an_existing_file_stays(run, tmp_path, capsys):
    (tmp_path / "check.json").write_text("mine")
    assert run("check @llama") == 2
    assert capsys.readouterr().err == (
        "kvlens: check.json exists: give another -o, or --overwrite to replace it\n"
    )
    assert (tmp_path / "check.json").read_text() == "mine"


def test_wrong_re_routing_is_said(run, tmp_path, monkeypatch, capsys):
    columns = prefix.with_prefix_columns
    monkeypatch.setattr(
        prefix, "with_prefix_columns", lambda mask, bias, *others: columns(mask, 0.0, *others)
    )
    assert run("check @llama") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["keep", "FAILED:"] for line in lines)
    assert kvlens.open(tmp_path / "check.json").recording_passed


def test_refused_re_routing_is_said(tmp_path, capsys):
    lm = family("bloom")
    lm.hf.save_pretrained(tmp_path / "bloom")
    lm.tokenizer.save_pretrained(tmp_path / "bloom")
    assert main(["check", "bloom"]) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert any(line.split()[:2] == ["keep", "FAILED:"] for line in captured.out.splitlines())
    result = kvlens.open(tmp_path / "check.json")
    assert result.recording_passed
    assert not result.rerouting_passed
