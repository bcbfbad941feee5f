"""Runs side by side: the numbers of the runs' own files; a page that shows names as names."""

import csv

import pytest
from figure_data import LABELS, TASKS, made_up_scores, made_up_sweep, saved_layer_set

import kvlens
from kvlens.cli import main
from kvlens.reporting.comparing.comparison import Comparison
from kvlens.reporting.comparing.page import draw, render

EVIL = '<script>alert(1)</script>|"x"'


def a_run(folder, model, **changes):
    """A run of the repository's own results, whose model is changed so."""
    layer_set = saved_layer_set(model)
    changed = layer_set.model.model_copy(update=changes)
    profile = layer_set.profile.model_copy(update={"model": changed})
    layer_set = layer_set.model_copy(update={"model": changed, "profile": profile})
    layer_set.save(folder / "layers.json")
    profile.save(folder / "profile.json")
    made_up_scores(layer_set, 0, LABELS[:3], TASKS[:2]).save(folder / "scores.json")
    made_up_sweep(layer_set).save(folder / "sweep.json")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Full, and quantized under a name of somebody's making."""
    home = tmp_path_factory.mktemp("runs")
    full = a_run(home / "full", "smollm2-135m")
    return full, a_run(home / "quantized", "smollm2-135m", name=EVIL, dtype="nf4-float32")


@pytest.fixture(scope="module")
def comparison(runs):
    return Comparison.of(runs)


def rows_of(comparison):
    return list(csv.DictReader(comparison.csv().splitlines()))


def test_every_number_is_that_of_the_run_s_own_file(comparison, runs):
    rows = rows_of(comparison)
    for folder, name in zip(runs, comparison.names, strict=True):
        scores = kvlens.open(folder / "scores.json").scores
        told = {(row["part"].split()[0], row["what"]): row for row in rows if row["run"] == name}
        for score in scores:
            row = told[score.task, score.label]
            numbers = [float(row[field]) for field in ("value", "low", "high")]
            assert numbers == [score.value, score.low, score.high]
        sweep = kvlens.open(folder / "sweep.json")
        plain = told["windows", "no re-routing"]
        assert float(plain["value"]) == sweep.plain
    weights = [row["words"] for row in rows if row["what"] == "weights"]
    assert weights == ["float32", "nf4-float32"]


def test_id_has_its_interval(comparison, runs):
    profile = kvlens.open(runs[0] / "profile.json")
    lowest = min(profile.estimates["twonn"], key=lambda each: each.value)
    row = next(row for row in rows_of(comparison) if row["what"] == "lowest")
    assert float(row["value"]) == lowest.value
    assert float(row["high"]) - lowest.value == pytest.approx(1.96 * lowest.stderr)
    assert row["words"].endswith(f"layer {lowest.layer}")


def test_names_are_no_markup(comparison):
    page = render(comparison, draw(comparison))
    assert EVIL in comparison.names
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page
    markdown = comparison.markdown()
    assert "<script>" not in markdown
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.count("|") - line.count("\\|") for line in tables} == {4}


def test_the_pictures_name_the_runs(comparison):
    pictures = draw(comparison)
    legend = pictures["profiles"].get_legend()
    names = "".join(text.get_text() for text in legend.get_texts()).replace("\n", "")
    assert "smollm2-135m" in names
    assert len(pictures["numbers"].get_figure().axes) == len(
        [part for part in comparison.parts if part.drawn]
    )


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    folders = [a_run(tmp_path / name, "smollm2-135m") for name in ("base", "tuned")]
    assert Comparison.of(folders).names == ("base", "tuned")


def test_the_terminal_writes_table_pictures_and_page(runs, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["compare", *map(str, runs), "-o", str(out)]
    assert main(arguments) == 0
    assert "## choice of layers" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"compare.toml"} | {
        f"{stem}.{kind}" for stem in ("profiles", "numbers") for kind in ("png", "pdf")
    } | {f"comparison.{kind}" for kind in ("csv", "md", "html")}
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "problem"),
    [((0,), "give two runs at least"), ((0, 0), "a run is given twice")],
)
def test_what_cannot_be_compared(runs, which, problem, capsys):
    assert main(["compare", *(str(runs[i]) for i in which)]) == 2
    assert problem in capsys.readouterr().err


def test_a_folder_that_is_no_run(runs, tmp_path, capsys):
    assert main(["compare", str(runs[0]), str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "is no run folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
