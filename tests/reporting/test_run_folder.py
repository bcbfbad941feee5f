"""Run folders: what is none, what is damaged, and what the terminal answers then."""

import shutil
from dataclasses import replace

import pytest
from report_pages import loaded
from safetensors.numpy import save
from torture.damage_to_values import unpacked

from kvlens.cli import main


def with_other_arrays(path, change):
    """Write the file again with some arrays of the same names."""
    arrays, metadata = unpacked(path.read_bytes())
    path.write_bytes(save({**arrays, **change(arrays)}, metadata))


def damage(path, how, place):
    patterns = loaded(place, 1)
    if how == "garbage":
        path.write_bytes(b"{}" * 50)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "shape":
        with_other_arrays(path, lambda arrays: {"beta": arrays["beta"][..., 1:]})
    elif how == "nan":
        with_other_arrays(path, lambda arrays: {"before": arrays["before"] * float("nan")})
    else:
        other = patterns.model.model_copy(update={"revision": "sha256:0"})
        replace(patterns, model=other).save(path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("garbage", "is not a valid set of"),
        ("cut", "is not a valid set of"),
        ("shape", "patterns-2.safetensors is not a valid set of attention patterns: beta is"),
        ("nan", "patterns-2.safetensors is not a valid set of attention patterns: before has NaN"),
        ("model", "move it"),
    ],
)
def test_damaged_files_are_answered_with_one_line(place, tmp_path, capsys, how, said):
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("*.html"))
    damage(tmp_path / "run" / "attention" / "patterns-2.safetensors", how, place)
    assert main(["report", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run" / "report.html").exists()


def test_what_is_no_run_folder_or_has_lost_its_model(place, tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "kvlens profile MODEL" in capsys.readouterr().err
    assert main(["report", str(place)]) == 2
    assert f"one of each model inside: {place}/bare, {place}/run" in capsys.readouterr().err
    shutil.copytree(place / "bare", tmp_path / "bare")
    layers = tmp_path / "bare" / "layers.json"
    layers.write_text(layers.read_text().replace(f"{place}/model", f"{place}/gone"))
    assert main(["report", str(tmp_path / "bare")]) == 2
    err = capsys.readouterr().err
    assert "gone" in err
    assert "--no-model" in err
