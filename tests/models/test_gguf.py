"""Converting a GGUF file: whole or not at all, whoever stops it, and with one line where it fails.

How a file is read is tested with the real model; here the reader gives a small one.
"""

import errno
import os
import signal

import pytest
from safetensors import SafetensorError

import kvlens
from kvlens import InputError
from kvlens.models import gguf


@pytest.fixture
def place(tmp_path, monkeypatch, zoo):
    """A GGUF file that is read as a small model, and where its checkpoint goes."""
    lm = zoo("llama")
    monkeypatch.setattr(gguf, "_read", lambda path: (lm.hf, lm.tokenizer))
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    return file, tmp_path / "models" / "small-0123"


def fails_at(monkeypatch, lm, what, happens):
    """Have something happen right after a part of the checkpoint is written."""
    part = {"model": lm.hf, "tokenizer": lm.tokenizer}[what]
    save = part.save_pretrained

    def save_and_fail(folder):
        save(folder)
        happens()

    monkeypatch.setattr(part, "save_pretrained", save_and_fail)


def names(folder):
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_it_is_written_once(place, monkeypatch):
    file, folder = place
    gguf.convert_gguf(file, folder)
    assert kvlens.load(folder).info.n_layers == 4
    monkeypatch.setattr(gguf, "_read", None)
    gguf.convert_gguf(file, folder)
    assert names(folder.parent) == {folder.name}


@pytest.mark.parametrize("what", ["model", "tokenizer"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        KeyboardInterrupt(),
    ],
)
def test_a_failure_leaves_nothing(place, zoo, monkeypatch, what, error):
    file, folder = place

    def happens():
        raise error

    fails_at(monkeypatch, zoo("llama"), what, happens)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else InputError
    with pytest.raises(expected) as caught:
        gguf.convert_gguf(file, folder)
    if expected is InputError:
        assert "No space left on device" in str(caught.value)
        assert "set KVLENS_CACHE to a folder" in str(caught.value)
    assert names(folder.parent) == set()


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_what_a_killed_conversion_left_is_removed_by_the_next(place, zoo, monkeypatch, what):
    file, folder = place
    child = os.fork()
    if child == 0:
        fails_at(monkeypatch, zoo("llama"), what, lambda: os.kill(os.getpid(), signal.SIGKILL))
        gguf.convert_gguf(file, folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert names(folder.parent) == {f".{folder.name}.kvlens"}
    gguf.convert_gguf(file, folder)
    assert names(folder.parent) == {folder.name}
    assert (folder / "config.json").exists()


def test_a_folder_without_configuration_is_replaced(place):
    file, folder = place
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    gguf.convert_gguf(file, folder)
    assert kvlens.load(folder).info.n_layers == 4


def test_a_cache_that_cannot_be_used_is_a_line(place, tmp_path):
    file, _ = place
    with pytest.raises(InputError, match="set KVLENS_CACHE") as caught:
        gguf.convert_gguf(file, tmp_path / "small.gguf" / "models" / "small")
    assert "\n" not in str(caught.value)
