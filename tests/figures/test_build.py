"""The paper's figures: rebuilt from saved results to the same bytes, with the saved numbers."""

import io
import re
import shutil
from contextlib import redirect_stdout
from importlib.metadata import version

import matplotlib
import numpy as np
import pytest
from build import FIGURES, build
from figure_data import HOME, METHODS, MODELS, made_up_data
from figure_words import words
from PIL import Image

import kvlens
from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.reporting.figures.saved import load_results, source
from kvlens.store.errors import InputError

MADE_UP = {"methods", "lengths", "depth", "choice"}  # drawn of other data here


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made_up_data(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def built(data):
    """Everything drawn once, and matplotlib's settings before and after."""
    before = dict(matplotlib.rcParams)
    return build(data, data.parent / "once"), before, dict(matplotlib.rcParams)


@pytest.mark.slow
def test_every_figure_is_drawn_to_the_same_bytes_again(data, built):
    paths, before, after = built
    names = [f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "md")]
    assert [path.name for path in paths] == names
    assert before == after
    for path, again in zip(paths, build(data, data.parent / "twice"), strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name


@pytest.mark.slow
def test_the_figures_in_the_repository_are_those_of_its_data(built):
    for path in built[0]:
        ours = HOME / path.name
        if path.stem in MADE_UP or not ours.exists():
            continue
        if path.suffix == ".md":
            assert ours.read_text() == path.read_text()
        elif path.suffix == ".png":
            kept = Image.open(ours)
            drawn = Image.open(path)
            # Another version may draw another pixel.
            if version("matplotlib") in kept.info["Software"]:
                np.testing.assert_array_equal(np.asarray(kept), np.asarray(drawn))


@pytest.mark.slow
def test_what_is_committed_is_small_and_tells_where_it_comes_from(built):
    assert sum(path.stat().st_size for path in (HOME / "data").iterdir()) < 2e6
    assert {path.stem for path in HOME.glob("*.png")} >= set(FIGURES) - MADE_UP
    for path in [*HOME.glob("*.md"), *(path for path in built[0] if path.suffix == ".md")]:
        text = path.read_text()
        assert "n = " in text
        assert "`kvlens " in text
        assert "torch 2." in text
        assert "sha256:" in text
        assert any(model in text for model in MODELS)
        assert not re.search(r"[\s'=]/\w", text)  # no absolute path


def test_beta_is_drawn_as_it_was_measured(data):
    figure = FIGURES["beta_by_layer"](data)[0]
    images = [
        ax.images[0] for ax in figure.axes if ax.images and ax.get_xlabel().startswith("position")
    ]
    wanted = [f"shift-{span}_{model}" for model in sorted(MODELS) for span in ("prompted", "text")]
    for image, name in zip(images, wanted, strict=True):
        shift = AttentionShift.load(data / f"{name}.safetensors")
        np.testing.assert_array_equal(image.get_array(), shift.arrays["beta.local.mean"].mean(1))
        assert tuple(image.get_extent()) == (0, 100, shift.model.n_layers - 0.5, -0.5)
    assert images[0].get_clim() == images[1].get_clim()


def test_patterns_in_the_picture_are_those_of_the_text(data):
    figure, numbers, (source,) = FIGURES["before_after"](data)
    patterns = AttentionPatterns.load(data / "patterns_smollm2-135m.safetensors")
    left = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(left.filled(0), patterns.arrays["before"][0].mean(0), atol=1e-7)
    assert "layer" not in source.split("`")[0]
    text = "The old lighthouse keeper wrote a letter to his daughter every evening."
    assert f"--text '{text}'" in source
    sink = patterns.arrays["after"][0, 0, 0, 0]
    assert f"takes {sink:.2f} of the first token's weight" in numbers


def test_further_lengths_are_drawn_for_the_methods_that_have_them(data):
    figure = FIGURES["lengths"](data)[0]
    for ax in figure.axes[:2]:
        model = ax.get_title().split(",")[0]
        points = {bars.get_label(): len(bars.lines[0].get_xdata()) for bars in ax.containers}
        more = int(model == MODELS[1])
        assert points == {name: 2 + more * (name in METHODS[:2]) for name in METHODS[:4]}


@pytest.mark.parametrize("name", FIGURES)
def test_no_words_overlap_or_leave_the_figure(data, name):
    with matplotlib.rc_context(kvlens.plots.STYLE):
        figure = FIGURES[name](data)[0]
        boxes = words(figure)
    whole = figure.bbox.padded(2)
    for i, (text, box) in enumerate(boxes):
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text
        for other, there in boxes[:i]:
            shared = box.intersection(box, there)
            assert shared is None or min(shared.width, shared.height) < 2, (text, other)


def test_controls_that_are_compared_with_another_method_are_refused(tmp_path):
    for name in ("effects", "controls-long"):
        shutil.copy(HOME / "data" / f"{name}_gemma3-270m.json", tmp_path)
    table = kvlens.open(tmp_path / "controls-long_gemma3-270m.json")
    table.model_copy(update={"reference": "mean"}).save(tmp_path / "controls-long_gemma3-270m.json")
    with pytest.raises(InputError, match="are compared with 'mean'"):
        FIGURES["controls"](tmp_path)


def test_a_source_needs_the_command_that_made_it(data):
    (lens,) = load_results(data, "lens", model=MODELS[0])[0]
    with pytest.raises(InputError, match="the KVLens says no command: give `source` one"):
        source(lens, "n = 300 passages")
    assert "`kvlens lens x`" in source(lens, "n = 300 passages", "kvlens lens x")


def test_what_has_no_data_is_left_out_with_a_message(tmp_path):
    with redirect_stdout(io.StringIO()) as out:
        assert build(tmp_path, tmp_path / "figures") == []
    assert len(out.getvalue().splitlines()) == len(FIGURES)
    assert f"methods: left out, {tmp_path} has no scores_* yet" in out.getvalue()
