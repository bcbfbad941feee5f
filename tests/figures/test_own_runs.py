"""Figures of one's own runs: the paper's recipes on run folders, within one column or over two."""

import shutil
from pathlib import Path

import matplotlib
import pytest
from figure_data import MODELS, made_up_data
from figure_words import words
from PIL import Image

import kvlens
from kvlens.cli import main
from kvlens.reporting.figures.drawing import figures_of
from kvlens.reporting.figures.layout import DOUBLE, SINGLE
from kvlens.reporting.figures.saved import KINDS

NAMES = [figure.name for figure in figures_of(MODELS[:1])]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_up_data(tmp_path_factory.mktemp("own"))


def as_run(data, folder, model):
    """A run folder with what `data` has of a model."""
    for name, kind in KINDS.items():
        saved = data / f"{name}_{model}{Path(kind.file).suffix}"
        if saved.exists():
            place = folder / (kind.also or kind.file)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(saved, place)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_within_one_column_nothing_overlaps_or_leaves_the_figure(data, name):
    figure = next(each for each in figures_of(MODELS[:1]) if each.name == name)
    with matplotlib.rc_context(kvlens.plots.STYLE):
        drawn = figure(data, SINGLE).figure
        boxes = words(drawn)
    assert drawn.get_figwidth() == SINGLE.width
    whole = drawn.bbox.padded(3)
    for i, (text, box) in enumerate(boxes):
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        for other, there in boxes[:i]:
            shared = box.intersection(box, there)
            assert shared is None or min(shared.width, shared.height) < 3, (text, other)


def test_stacked_axes_are_those_of_the_grid():
    """In the grid's order, a column's axes below one another where columns stay together."""
    rows = [ax.get_position().y0 for ax in SINGLE.axes(2.0, 2, 2)]
    assert rows == sorted(rows, reverse=True)
    columns = [ax.get_position().y0 for ax in SINGLE.axes(2.0, 2, 2, by_column=True)]
    assert columns[0] > columns[2] > columns[1] > columns[3]
    wide = DOUBLE.axes(2.0, 2, 2)
    assert wide[0].get_position().y0 == wide[1].get_position().y0


def test_the_terminal_draws_what_a_run_has_the_data_for(data, tmp_path, capsys):
    """The same picture as from the paper's data; each with its caption, the data beside."""
    run = tmp_path / "run"
    for name in ("layers", "study"):
        shutil.copy(data / f"{name}_{MODELS[0]}.json", tmp_path)
    as_run(tmp_path, run, MODELS[0])
    out = tmp_path / "out"
    arguments = ["figures", str(run), "-o", str(out), "--format", "svg,png"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert f"written: layer_id, layer_id_{MODELS[0]}, regret in {out}" in told
    assert "depth: left out, lacks sweep.json" in told
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["data", "figures.toml"]
        + [
            f"{name}.{kind}"
            for name in ("layer_id", f"layer_id_{MODELS[0]}", "regret")
            for kind in ("svg", "png", "md")
        ]
    )
    assert (out / "data" / f"layers_{MODELS[0]}.json").is_file()
    assert "`kvlens profile" in (out / "layer_id.md").read_text()
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    (out / "notes.txt").write_text("mine")
    assert main([*arguments[:-1], "png", "--overwrite", "--width", "single"]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "layer_id.svg").exists()
    assert Image.open(out / "regret.png").width == round(200 * SINGLE.width)


def test_results_made_in_python_say_no_command(data, tmp_path):
    from kvlens.reporting.figures.own_runs import draw_runs

    layer_set = kvlens.open(data / f"layers_{MODELS[0]}.json")
    changed = layer_set.model_copy(update={"command": None})
    changed.save(tmp_path / "run" / "layers.json")
    draw_runs([tmp_path / "run"], tmp_path / "out", formats=("png",))
    assert "made in Python" in (tmp_path / "out" / "layer_id.md").read_text()


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        (("empty",), "empty has no results to draw: make them with `kvlens profile MODEL`"),
        (("one", "two"), f"two runs are of {MODELS[0]}: `kvlens compare` sets them side by side"),
        (("nothing",), "no such"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(data, tmp_path, runs, problem, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("one", "two"):
        as_run(data, tmp_path / name, MODELS[0])
    out = tmp_path / "out"
    code = main(["figures", *(str(tmp_path / run) for run in runs), "-o", str(out)])
    assert code == 2
    told = capsys.readouterr().err
    assert problem in told or "has no results to draw" in told
    assert not out.exists()


def test_a_format_that_there_is_not(data, tmp_path, capsys):
    run = as_run(data, tmp_path / "run", MODELS[0])
    assert main(["figures", str(run), "--format", "gif", "-o", str(tmp_path / "out")]) == 2
    assert "--format" in capsys.readouterr().err
