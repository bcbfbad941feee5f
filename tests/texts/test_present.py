"""The texts that a result recorded, read here again."""

import json

import pytest

from kvlens import Texts, read_texts
from kvlens.texts import present, wikipedia
from kvlens.texts.present import files_named, texts_here
from kvlens.texts.texts import TextsInfo

ROWS = ["one", "two, three", "", "four"]


def write_rows(path, rows=ROWS):
    path.write_text("".join(json.dumps({"body": row}) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"column": "body", "empty": True},
        {"column": "body", "empty": True, "limit": 2},
        {"column": "body", "skip_bad": True},
        {"column": "body", "skip_bad": True, "empty": True},
    ],
)
def test_a_table_is_read_as_it_was(options, tmp_path):
    path = write_rows(tmp_path / "a, column b.jsonl")
    with path.open("a") as file:
        file.write("{broken\n" if options.get("skip_bad") else "")
    info = read_texts(path, **options).info()
    assert texts_here(info, [tmp_path]).content == info.sha256


def test_lines_are_read_as_they_were(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a\n\nb\nc\n")
    info = read_texts(path, limit=2).info()
    assert texts_here(info, [tmp_path]).content == info.sha256
    path.write_text("a\nc\n")
    here = texts_here(info, [tmp_path])
    assert here.exists
    assert here.content != info.sha256
    assert here.note == f"{path} has other texts"


def test_the_command_line_tells_the_folder(tmp_path):
    far = tmp_path / "far"
    far.mkdir()
    info = read_texts(write_rows(far / "x.jsonl"), "body", empty=True).info()
    write_rows(tmp_path / "x.jsonl", ["others"])
    commands = ["kvlens profile m --texts=far/x.jsonl --column body", "kvlens 'left open"]
    assert texts_here(info, [tmp_path]).content != info.sha256
    assert texts_here(info, [tmp_path], commands).content == info.sha256
    assert files_named("x.jsonl", [tmp_path], commands) == [far / "x.jsonl", tmp_path / "x.jsonl"]
    absolute = [f"kvlens embed m -i {far}/x.jsonl"]
    assert files_named("x.jsonl", [tmp_path / "absent"], absolute) == [far / "x.jsonl"]


@pytest.mark.parametrize(
    ("source", "note"),
    [
        ("standard input", "standard input"),
        ("standard input, column text", "standard input"),
        ("a list in Python", "no file of theirs is here: a list in Python"),
        ("absent.jsonl, column text", "no file of theirs is here"),
        ("../../etc/passwd", "no file of theirs is here"),
        ("", "no file of theirs is here"),
    ],
)
def test_what_is_not_here_cannot_be_told(source, note, tmp_path):
    here = texts_here(TextsInfo(source=source, n=3, sha256="0"), [tmp_path])
    assert (here.content, here.exists) == (None, False)
    assert note in here.note


def test_passages_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path))
    source = f"passages from {wikipedia.ATTRIBUTION}"
    here = texts_here(TextsInfo(source=source, n=3, sha256="0"), [])
    assert (here.content, here.exists) == (None, False)
    assert "not fetched here" in here.note
    assert list(tmp_path.iterdir()) == []


def test_passages_that_are_here_are_compared(monkeypatch):
    texts = Texts(("a", "b"), f"passages from {wikipedia.ATTRIBUTION}")
    monkeypatch.setattr(present, "articles_are_here", lambda: True)
    monkeypatch.setattr(present, "calibration_texts", lambda n: texts)
    assert texts_here(texts.info(), []).content == texts.sha256
