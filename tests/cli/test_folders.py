"""Output folders: whole, or as before."""

from pathlib import Path

import pytest

from kvlens import InputError
from kvlens.cli.folders import output_folder, run_folder, run_name


def test_a_run_is_named_after_the_whole_model():
    names = ("Qwen/Qwen3-0.6B", "./dir/model-1.5/", "a.gguf")
    assert [run_name(name) for name in names] == ["Qwen3-0.6B", "model-1.5", "a"]
    assert run_folder("org/a", "b.gguf", suffix="-lens") == Path("runs/a+b-lens")


def test_a_folder_that_cannot_be_put_in_place_is_as_before(tmp_path, monkeypatch):
    """Hours of work are moved into the new folder: they have to be moved back."""
    folder = tmp_path / "run"
    (folder / "results").mkdir(parents=True)
    (folder / "sweep.json").write_text("hours")
    (folder / "layers.json").write_text("old")
    rename = Path.rename

    def fails_for_the_new(path, target):
        if path.name == "new":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with (
        pytest.raises(InputError, match="cannot write"),
        output_folder(folder, overwrite=True) as scratch,
    ):
        (scratch / "layers.json").write_text("new")
    assert (folder / "sweep.json").read_text() == "hours"
    assert (folder / "results").is_dir()
    assert (folder / "layers.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
