"""Targets: what cannot be written is refused before the work; what was interrupted is mended."""

import os
import shutil
import stat

import pytest

from kvlens import InputError
from kvlens.cli.folders import output_folder
from kvlens.cli.profile import WRITES

# @T is the target; what else a line names is there, but for the model, which must not be loaded.
WRITE_A_FILE = (
    "report @whole -o @T --no-model",
    "sweep x --pairs @pairs.jsonl -o @T",
    "sweep x --pairs @pairs.jsonl -o @T --overwrite",
    "sweep x --pairs @pairs.jsonl -o @T --resume",
    "embed x -i @texts.txt -o @T.npy --overwrite",
)
WRITE_A_FOLDER = (
    "profile x --texts @texts.txt -o @T",
    "profile x --texts @texts.txt -o @T --overwrite",
    "attend x --layers 1 --text a -o @T --overwrite",
    "lens x --layers 1 --texts @texts.txt -o @T --overwrite",
    "evaluate x --tasks LongWikipedia -o @T",
)
READ_A_RUN = (
    "profile x --texts @texts.txt -o @swapped",
    "attend x --layers @swapped/layers.json --text a -o @t",
    "lens x --layers @swapped/layers.json --texts @texts.txt -o @t",
    "embed x --layers @swapped/layers.json -i @texts.txt -o @t.npy",
    "sweep x --pairs @pairs.jsonl -o @swapped/sweep.json",
    "sweep x --pairs @pairs.jsonl -o @t.json --profiles @swapped/profile.json",
    "evaluate x --tasks LongWikipedia -o @swapped",
    "evaluate x --pairs @pairs.jsonl --layers @swapped/layers.json",
    "report @swapped --no-model",
    "verify @swapped",
)


@pytest.fixture(scope="module")
def whole(place, run, pairs_file):
    """A run, and the files that the lines name."""
    (place / "pairs.jsonl").write_bytes(pairs_file.read_bytes())
    profile = "profile @llama --texts @texts.txt --n 60 -o @whole --rule explicit --layers 1"
    assert run(profile) == 0
    return place / "whole"


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model is refused, and remembered."""
    loaded = []

    def load(name, **options):
        loaded.append(name)
        raise InputError("a model is loaded")

    monkeypatch.setattr("kvlens.models.loading.load", load)
    return loaded


def pipe(path):
    os.mkfifo(path)


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except (AttributeError, PermissionError):
        pytest.skip("only root makes devices, and not everywhere")


def link_to_a_device(path):
    path.symlink_to(os.devnull)


@pytest.mark.parametrize("make", [pipe, device, link_to_a_device])
@pytest.mark.parametrize("line", WRITE_A_FILE + WRITE_A_FOLDER)
def test_what_is_no_file_or_folder_is_refused_at_once(
    line, make, whole, place, run, no_model, capsys
):
    target = place / ("T.npy" if "T.npy" in line else "T")
    make(target)
    kind = os.lstat(target).st_mode
    capsys.readouterr()
    try:
        assert run(line) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), no_model) == ("", 1, [])
        assert str(target) in err
        assert os.lstat(target).st_mode == kind
    finally:
        target.unlink()


@pytest.mark.parametrize("line", WRITE_A_FILE)
def test_a_folder_is_no_file(line, whole, place, run, no_model, capsys):
    target = place / ("T.npy" if "T.npy" in line else "T")
    target.mkdir()
    capsys.readouterr()
    assert run(line) == 2
    assert "is a folder, not a file" in capsys.readouterr().err
    assert no_model == []
    target.rmdir()


@pytest.mark.parametrize("line", WRITE_A_FOLDER)
def test_a_file_is_no_folder(line, whole, place, run, no_model, capsys):
    (place / "T").write_text("mine")
    capsys.readouterr()
    assert run(line) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert no_model == []
    assert (place / "T").read_text() == "mine"
    (place / "T").unlink()


@pytest.mark.parametrize("taken", ["scores.json", "scores.csv", "scores.md", "results"])
def test_every_file_of_an_evaluation_is_looked_at(taken, whole, place, run, no_model, capsys):
    (place / "T").mkdir()
    os.mkfifo(place / "T" / taken)
    capsys.readouterr()
    assert run("evaluate x --tasks LongWikipedia -o @T") == 2
    assert taken in capsys.readouterr().err
    assert no_model == []
    (place / "T" / taken).unlink()
    (place / "T").rmdir()


def test_a_study_that_cannot_be_written_is_known_before(whole, place, run, no_model, capsys):
    (place / "study.json").mkdir()
    capsys.readouterr()
    assert run("sweep x --pairs @pairs.jsonl -o @T --overwrite") == 2
    assert "study.json is a folder, not a file" in capsys.readouterr().err
    assert no_model == []
    (place / "study.json").rmdir()


@pytest.mark.parametrize("line", READ_A_RUN)
def test_every_command_puts_a_run_back(line, whole, place, run, no_model, monkeypatch, capsys):
    """The run as SIGKILL leaves it between the two renames of an overwrite."""
    target = place / "swapped"
    if not target.exists():
        shutil.copytree(whole, target)
    killed = os.fork()
    if killed == 0:
        rename = os.rename

        def rename_once(old, new, **options):
            rename(old, new)
            os.kill(os.getpid(), 9)

        monkeypatch.setattr(os, "rename", rename_once)
        with output_folder(target, True, WRITES):
            pass
        os._exit(0)
    os.waitpid(killed, 0)
    assert not target.exists()
    capsys.readouterr()
    run(line)
    err = capsys.readouterr().err
    assert f"note: {target} was about to be replaced when a run was killed" in err
    assert (target / "layers.json").exists()
    assert [path.name for path in place.iterdir() if "swapped" in path.name] == ["swapped"]
