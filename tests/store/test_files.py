"""Files are written whole or not at all, and others can read them."""

import os
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from kvlens import InputError
from kvlens.store.files import (
    atomic_path,
    cache_folder,
    remove_abandoned,
    scratch_folder,
    writable_file,
    write_text,
)


def test_atomic_path_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")

    def half_write():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InputError, match="cannot write"), atomic_path(target / "below" / "a file"):
        pass


def test_what_is_written_can_be_read_by_others(tmp_path):
    (plain := tmp_path / "plain").touch()
    with atomic_path(tmp_path / "v.safetensors") as temporary:
        save_file({"v": torch.zeros(1)}, temporary)
    assert (tmp_path / "v.safetensors").stat().st_mode == plain.stat().st_mode


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    target = tmp_path / "far" / "real.txt"
    target.parent.mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_text(link, "through the link")
    assert link.is_symlink()
    assert target.read_text() == "through the link"
    assert [path.name for path in target.parent.iterdir()] == ["real.txt"]


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target, kind in ((pipe, "a pipe"), (tmp_path, "a folder"), ("/dev/null", "a device")):
        with pytest.raises(InputError, match=f"is {kind}, not a file"):
            write_text(target, "lost")
        with pytest.raises(InputError, match=f"is {kind}, not a file"):
            writable_file(target)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(not hasattr(os, "mknod") or os.getuid() != 0, reason="only root makes devices")
def test_a_device_of_our_own_survives(tmp_path):
    device = tmp_path / "device"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    with pytest.raises(InputError, match="is a device, not a file"):
        write_text(device, "lost")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_places_that_cannot_be_written_are_known_before(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (file := tmp_path / "file").touch()
    for place in (loop, file / "below" / "deep", "zero\0byte"):
        with pytest.raises(InputError, match="cannot write"):
            writable_file(place)
    assert writable_file(tmp_path / "a" / "b.txt") == tmp_path.resolve() / "a" / "b.txt"
    assert not (tmp_path / "a").exists()


def test_an_unusable_cache_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set KVLENS_CACHE to a folder"):
        cache_folder("texts")
    monkeypatch.setenv("KVLENS_CACHE", str(tmp_path / "new"))
    assert cache_folder("texts").is_dir()


def test_safetensors_own_error_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*No space left"):  # noqa: SIM117
        with atomic_path(tmp_path / "v.safetensors"):
            raise SafetensorError("Error while serializing: I/O error: No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "out.json"
    child = os.fork()
    if child == 0:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob(".out.json.kvlens/*"))) == 2
    write_text(target, "whole")
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_processes_left_in_a_folder_is_removed(tmp_path):
    for name in ("a.json", "b.json"):
        child = os.fork()
        if child == 0:
            with atomic_path(tmp_path / name):
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    with scratch_folder(tmp_path / "living") as living:
        remove_abandoned(tmp_path)
        assert living.is_dir()
        assert list(tmp_path.iterdir()) == [living.parent]


def test_an_interrupt_at_any_name_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C may come right after the first folder is made."""
    mkdir = Path.mkdir

    def interrupted(path, *args, **options):
        mkdir(path, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "out.json", "text")
    assert list(tmp_path.iterdir()) == []


def test_scratch_of_a_living_process_stays(tmp_path):
    target = tmp_path / "out"
    with scratch_folder(target) as first:
        (first / "content").touch()
        child = os.fork()
        if child == 0:
            with scratch_folder(target) as second:
                os._exit(0 if second != first else 1)
        assert os.waitpid(child, 0)[1] == 0
        write_text(target, "new")
        assert (first / "content").exists()
    assert list(tmp_path.iterdir()) == [target]


def test_text_with_half_a_surrogate_pair_is_written_escaped(tmp_path):
    write_text(tmp_path / "page.html", "runs/\udc80.json")
    assert (tmp_path / "page.html").read_text() == "runs/\\udc80.json"


def test_threads_write_one_file_at_the_same_time(tmp_path):
    """One that ends removes their common scratch; another that begins makes it again."""
    target = tmp_path / "file.json"
    start = threading.Barrier(4)

    def write(number):
        start.wait()
        for _ in range(50):
            write_text(target, f"{number}" * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(target.read_text()) == 1000
    assert list(tmp_path.iterdir()) == [target]
