"""Output folders: whole, or as before; a replaced run is never lost, wherever it is stopped."""

import contextlib
import errno
import itertools
import os
import shutil
import signal

import pytest

from kvlens import InputError
from kvlens.cli.folders import output_folder, run_folder, run_name
from kvlens.cli.profile import WRITES
from kvlens.cli.swap import recover

CALLS = ("rename", "replace", "link", "symlink", "mkdir", "unlink", "rmdir", "open")
KEPT = {
    "sweep.json": "hours",
    "results/kvlens__m/task.json": "days",
    "notes.txt": "mine",
    "mine/deep/profile.json": "mine, too",
    "attention/notes.txt": "mine as well",
}
OLD = {
    **KEPT,
    "layers.json": "old",
    "attention/shift.safetensors": "old",
    "report.html": "old",
    "trace.safetensors": "old",
    "prefix.safetensors": "old",
}
NEW = {**KEPT, "layers.json": "new"}


def make_run(folder):
    for name, text in OLD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "link").symlink_to("notes.txt")


def replace_run(folder):
    with output_folder(folder, True, WRITES) as new:
        (new / "layers.json").write_text("new")


def content(folder):
    """Name -> text of every file, but for the link, which has to be one."""
    assert os.readlink(folder / "link") == "notes.txt"
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


class Fault:
    """Something that happens before or after one of the calls that change the file system."""

    def __init__(self, monkeypatch, number=None, side="before", happens=None, calls=CALLS):
        self.numbers = itertools.count()
        self.number = number
        self.side = side
        self.happens = happens
        for name in calls:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, function):
        def call(*args, **options):
            number = next(self.numbers)
            if (number, "before") == (self.number, self.side):
                self.happens()
            result = function(*args, **options)
            if (number, "after") == (self.number, self.side):
                self.happens()
            return result

        return call


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def n_calls(tmp_path_factory):
    """How many calls a replacement makes, all in all."""
    folder = tmp_path_factory.mktemp("counted") / "run"
    make_run(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault = Fault(monkeypatch)
        replace_run(folder)
    return next(fault.numbers)


def test_a_run_is_named_after_the_whole_model():
    names = ("Qwen/Qwen3-0.6B", "./dir/model-1.5/", "a.gguf")
    assert [run_name(name) for name in names] == ["Qwen3-0.6B", "model-1.5", "a"]
    assert str(run_folder("org/a", "b.gguf", suffix="-lens")) == "runs/a+b-lens"


def test_what_the_command_does_not_write_is_kept(tmp_path):
    folder = tmp_path / "run"
    make_run(folder)
    replace_run(folder)
    assert content(folder) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_each_of_several_models_keeps_what_is_its_own(tmp_path):
    folder = tmp_path / "run"
    for name in ("a", "b"):
        make_run(folder / name)
    (folder / "layer_id.png").touch()
    with output_folder(folder, True, WRITES) as new:
        (new / "a").mkdir()
        (new / "a" / "layers.json").write_text("new")
    assert content(folder / "a") == NEW
    assert content(folder / "b") == OLD  # a folder that the command did not write
    assert not (folder / "layer_id.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("happens", [full_disk, interrupt])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_failure_anywhere_leaves_a_whole_run(tmp_path, monkeypatch, n_calls, happens, side):
    found = set()
    for number in range(n_calls):
        folder = tmp_path / str(number) / "run"
        make_run(folder)
        with monkeypatch.context() as patched:
            Fault(patched, number, side, happens)
            with contextlib.suppress(InputError, KeyboardInterrupt):
                replace_run(folder)
        assert content(folder) in (OLD, NEW), number
        found.add(content(folder)["layers.json"])
        check_the_next_start(folder)
    assert found == {"old", "new"}


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("number", range(3))
def test_an_interrupt_at_a_rename_leaves_nothing_beside(tmp_path, monkeypatch, number, side):
    folder = tmp_path / "run"
    make_run(folder)
    with monkeypatch.context() as patched:
        Fault(patched, number, side, interrupt, calls=("rename",))
        with pytest.raises(KeyboardInterrupt):
            replace_run(folder)
    assert content(folder) in (OLD, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_kill_anywhere_leaves_a_whole_run_and_the_next_start_finds_it(
    tmp_path, monkeypatch, n_calls, side, capsys
):
    found = set()
    for number in range(n_calls):
        folder = tmp_path / str(number) / "run"
        make_run(folder)
        child = os.fork()
        if child == 0:
            Fault(monkeypatch, number, side, kill)
            replace_run(folder)
            os._exit(0)  # more calls in one run than in another: the lock's
        os.waitpid(child, 0)
        before = folder.with_name("run.before")
        missing = not folder.exists()
        assert content(before if missing else folder) in (OLD, NEW)
        both = before.exists() and not missing
        capsys.readouterr()
        recover(folder)
        told = capsys.readouterr().err
        assert content(folder) in (OLD, NEW), number
        assert told.count("\n") == (missing or both)
        assert ("it is back as it was" in told) == missing
        assert ("is what" in told) == both
        if both:
            assert content(before) == OLD
            assert content(folder) == NEW
        found.add((missing, both))
        check_the_next_start(folder)
    assert found == {(False, False), (True, False), (False, True)}


def check_the_next_start(folder):
    """It is replaced as if nothing had been; nothing hidden stays."""
    replace_run(folder)
    assert content(folder) == NEW
    names = {path.name for path in folder.parent.iterdir()}
    if "run.before" in names:
        assert content(folder.with_name("run.before")) == OLD
        shutil.rmtree(folder.with_name("run.before"))
        recover(folder)
        names = {path.name for path in folder.parent.iterdir()}
    assert names == {"run"}


def test_a_disk_that_stays_broken_says_where_the_old_run_is(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    make_run(folder)
    rename = os.rename

    def only_the_first(old, new, **options):
        if str(new).endswith(".before"):
            return rename(old, new)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", only_the_first)
        with pytest.raises(InputError, match=r"it is whole in .*run\.before"):
            replace_run(folder)
    assert content(folder.with_name("run.before")) == OLD
    recover(folder / "layers.json")
    assert content(folder) == OLD
    assert "it is back as it was" in capsys.readouterr().err


def test_a_folder_of_that_name_without_a_mark_is_left_alone(tmp_path, capsys):
    make_run(tmp_path / "run.before")
    recover(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    make_run(tmp_path / "run")
    replace_run(tmp_path / "run")
    assert content(tmp_path / "run") == NEW
    assert content(tmp_path / "run.before") == OLD
    assert capsys.readouterr().err == ""


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    def none(*args, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    make_run(tmp_path / "run")
    replace_run(tmp_path / "run")
    assert content(tmp_path / "run") == NEW


def test_a_link_to_a_folder_stays_one(tmp_path):
    far = tmp_path / "far" / "real"
    link = tmp_path / "run"
    link.symlink_to(far)
    with output_folder(link, False, WRITES) as new:
        (new / "layers.json").write_text("new")
    assert link.is_symlink()
    assert (far / "layers.json").read_text() == "new"
    shutil.rmtree(far)
    make_run(far)
    replace_run(link)
    assert link.is_symlink()
    assert content(far) == NEW
    assert [path.name for path in far.parent.iterdir()] == ["real"]


def test_what_is_no_folder_of_kvlens_is_refused_and_stays(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "results").mkdir(parents=True)
    (project / "report.html").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    here = tmp_path / "here"
    make_run(here)
    monkeypatch.chdir(here / "results")
    refused = {
        project: "is not a folder of kvlens",
        tmp_path / "pipe": "is no folder",
        tmp_path / "loop": "cannot write",
        here: "holds the folder that you are in",
        tmp_path / "zero\0byte": "cannot write",
    }
    for folder, message in refused.items():
        with pytest.raises(InputError, match=message):
            replace_run(folder)
    assert (project / "report.html").read_text() == "mine"
    assert content(here) == OLD
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    replace_run(tmp_path / "run")
    assert (tmp_path / "run" / "layers.json").read_text() == "new"


def test_what_another_process_wrote_meanwhile_is_not_replaced(tmp_path):
    folder = tmp_path / "run"

    def write_slowly():
        with output_folder(folder, False, WRITES) as new:
            (new / "layers.json").write_text("slower")
            make_run(folder)

    with pytest.raises(InputError, match=r"this run is .*run\.new"):
        write_slowly()
    assert content(folder) == OLD
    assert (tmp_path / "run.new" / "layers.json").read_text() == "slower"


def test_a_refusal_names_the_folder_and_not_its_scratch(tmp_path):
    def write():
        with output_folder(tmp_path / "run", False, WRITES) as new:
            raise InputError(f"cannot write {new / 'layers.json'}: No space left on device")

    with pytest.raises(InputError) as caught:
        write()
    place = tmp_path / "run" / "layers.json"
    assert str(caught.value) == f"cannot write {place}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_processes_take_turns(tmp_path):
    folder = tmp_path / "run"
    make_run(folder)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            for _ in range(20):
                recover(folder)
                replace_run(folder)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert content(folder) == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
