"""The paper's figures: rebuilt from the saved results to the same bytes, with the numbers that were saved."""

import io
import re
import shutil
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from build import FIGURES, build
from collect import collect
from conftest import tiny
from PIL import Image
from saved import KINDS

import kvlens
from kvlens.analysis.attention import (
    AttentionPatterns,
    AttentionShift,
    attention_patterns,
    attention_shift,
)
from kvlens.analysis.lens import KVLens, kv_lens
from kvlens.evaluation.scores import Score, Scores
from kvlens.plots.attention_html import beta_html, patterns_html
from kvlens.plots.scores import plot_lengths, plot_scores
from kvlens.plots.sweeps import plot_study, plot_sweep
from kvlens.store.provenance import made_by, versions
from kvlens.studies.layer_sweep import Sweep, Window
from kvlens.studies.regret import LayerStudy

HOME = Path(__file__).parents[1] / "figures"
MODELS = ("smollm2-135m", "gemma3-270m")
TASKS = ("STSBenchmark", "SICK-R", "STS16", "Banking77Classification")
METHODS = (
    "kv_embedding",
    "kv_embedding (no re-routing)",
    "mean",
    "echo",
    "prompt_eol",
    "last_token",
    "aligned_wva",
)
LABELS = [
    f"{name}{post}"
    for post in ("", " + whiten", " + zscore")
    for name in (*METHODS, "token_prepending")
]


def fake_scores(layer_set, seed, labels=tuple(LABELS), tasks=TASKS):
    """A full table: rows on tasks, but for one cell that is not there yet."""
    value = 100 * np.random.default_rng(seed).uniform(0.3, 0.8, size=(len(labels), len(tasks)))
    fixed = {
        "settings": {},
        "split": "test",
        "n": 1379,
        "unit": "pairs",
        "p": None,
        "difference": None,
    }
    cells = [
        Score(
            method=label.split()[0],
            label=label,
            post=label.partition(" + ")[2] or None,
            task=task,
            metric="accuracy" if "77" in task else "cosine_spearman",
            value=value[i, j],
            low=value[i, j] - 2,
            high=value[i, j] + 1,
            limited=False,
            **fixed,
        )
        for i, label in enumerate(labels)
        for j, task in enumerate(tasks)
    ]
    return Scores(model=layer_set.model, max_length=512, scores=tuple(cells[:-1] if seed else cells),
                  versions=versions(), command="kvlens evaluate MODEL -o runs/MODEL")  # fmt: skip


def fake_sweep(layer_set):
    fixed = {"bias": 1.0, "low": 57, "high": 63, "cosines": (0.5, 0.25)}
    windows = [
        Window(
            first=i, width=w, layers=tuple(range(i, i + w)), spearman=60 + np.sin(i + w), **fixed
        )
        for w in (1, 4)
        for i in range(layer_set.model.n_layers - w + 1)
    ]
    return Sweep(model=layer_set.model, prompt=layer_set.prompts.document, pooling="hybrid", position="keep",
                 data="STSBenchmark validation", n_pairs=300, plain=60.5, plain_low=56, plain_high=64,
                 plain_cosines=(1.0,), human=(1.0,), windows=tuple(windows), versions=versions(),
                 command="kvlens sweep MODEL -o runs/MODEL/sweep.json")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The repository's own data, with scores and sweeps made up."""
    place = shutil.copytree(HOME / "data", tmp_path_factory.mktemp("figures") / "data")
    for seed, model in enumerate(MODELS):
        layer_set = kvlens.LayerSet.load(place / f"layers_{model}.json")
        fake_scores(layer_set, seed).save(place / f"scores_{model}.json")
        some = [f"{name}{post}" for post in ("", " + zscore") for name in METHODS[:4]]
        long = fake_scores(layer_set, 0, some, ("LongWikipedia@1024", "LongWikipedia@256"))
        long.save(place / f"lengths_{model}.json")
        (place / f"longest_{model}.json").unlink(missing_ok=True)
        if seed:  # a further length, of fewer methods
            fake_scores(layer_set, 0, some[:2], ("LongWikipedia@4096",)).save(
                place / f"longest_{model}.json"
            )
        fake_sweep(layer_set).save(place / f"sweep_{model}.json")
    return place


@pytest.fixture(scope="module")
def built(data):
    """Everything drawn once, and matplotlib's settings before and after."""
    before = dict(matplotlib.rcParams)
    return build(data, data.parent / "once"), before, dict(matplotlib.rcParams)


def test_every_figure_is_drawn_to_the_same_bytes_again(data, built):
    paths, before, after = built
    assert {path.name for path in paths} == {
        f"{n}.{kind}" for n in FIGURES for kind in ("png", "pdf", "md")
    }
    assert before == after
    for path, again in zip(paths, build(data, data.parent / "twice"), strict=True):
        assert path.read_bytes() == again.read_bytes(), path.name


def test_the_figures_in_the_repository_are_those_of_its_data(built):
    for path in built[0]:
        ours = HOME / path.name
        if path.stem in ("methods", "lengths", "depth") or not ours.exists():
            continue
        if path.suffix == ".md":
            assert ours.read_text() == path.read_text()
        elif path.suffix == ".png":
            one, other = Image.open(ours), Image.open(path)
            if (
                version("matplotlib") in one.info["Software"]
            ):  # another version may draw another pixel
                np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_what_is_committed_is_small_and_tells_where_it_comes_from(built):
    assert sum(path.stat().st_size for path in (HOME / "data").iterdir()) < 2e6
    assert {path.stem for path in HOME.glob("*.png")} >= set(FIGURES) - {
        "methods",
        "lengths",
        "depth",
    }
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
    assert (
        "--text 'The old lighthouse keeper wrote a letter to his daughter every evening.'" in source
    )
    assert (
        f"takes {patterns.arrays['after'][0, 0, 0, 0]:.2f} of the first token's weight" in numbers
    )


def test_scores_and_their_intervals_are_read_back_from_the_picture(data):
    for result in (Scores.load(data / f"scores_{model}.json") for model in MODELS):
        axes = plot_scores(result)
        methods = [text.get_text() for text in axes[0].get_yticklabels()]
        assert sorted(methods) == sorted({s.label.split(" + ")[0] for s in result.scores})
        means = [
            np.mean([s.value for s in result.scores if s.label == method]) for method in methods
        ]
        assert means == sorted(means, reverse=True)
        for ax, task in zip(axes, TASKS, strict=True):
            drawn = 0
            for bars in ax.containers:
                (whiskers,) = bars.lines[2]
                for x, ((low, y), (high, _)) in zip(
                    bars.lines[0].get_xdata(), whiskers.get_segments(), strict=True
                ):
                    post = bars.get_label() if bars.get_label() != "no post-processing" else None
                    label = methods[round(y)] + (f" + {post}" if post else "")
                    (s,) = [s for s in result.scores if (s.task, s.label) == (task, label)]
                    assert (x, low, high) == pytest.approx((s.value, s.low, s.high))
                    drawn += 1
            assert drawn == sum(s.task == task for s in result.scores)
        bold = [
            text.get_text() for text in axes[0].get_yticklabels() if text.get_fontweight() == "bold"
        ]
        assert bold == ["kv_embedding"]


@pytest.mark.parametrize("zscored", [False, True])
def test_retrieval_by_length_is_read_back_from_the_picture(data, zscored):
    result = Scores.load(data / "lengths_gemma3-270m.json")
    post, mark = ("zscore", " + zscore") if zscored else (None, "")
    ax = plot_lengths(result, post)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["256", "1,024"]
    assert [bars.get_label() for bars in ax.containers] == list(METHODS[:4])
    for bars in ax.containers:
        expected = [s for s in result.scores if s.label == bars.get_label() + mark]
        expected.sort(key=lambda s: int(s.task.split("@")[1]))
        (whiskers,) = bars.lines[2]
        assert bars.lines[0].get_ydata().tolist() == [s.value for s in expected]
        ends = [(low, high) for (_, low), (_, high) in whiskers.get_segments()]
        np.testing.assert_allclose(ends, [(s.low, s.high) for s in expected])


def test_a_sweep_is_drawn_over_the_middle_of_its_windows(data):
    sweep, layer_set = (
        Sweep.load(data / "sweep_gemma3-270m.json"),
        kvlens.LayerSet.load(data / "layers_gemma3-270m.json"),
    )
    top, bottom = plot_sweep(sweep, layer_set)
    lines = {line.get_label(): line for line in top.lines}
    assert lines["no re-routing"].get_ydata()[0] == sweep.plain
    for width, label in ((1, "1 layer, bias 1"), (4, "4 layers, bias 1")):
        group = [w for w in sweep.windows if w.width == width]
        assert lines[label].get_xdata().tolist() == [np.mean(w.layers) for w in group]
        assert lines[label].get_ydata().tolist() == [w.spearman for w in group]
    np.testing.assert_array_equal(bottom.lines[0].get_ydata(), layer_set.profile.values("twonn"))


def test_further_lengths_are_drawn_for_the_methods_that_have_them(data):
    figure = FIGURES["lengths"](data)[0]
    for ax in figure.axes[:2]:
        model = ax.get_title().split(",")[0]
        points = {bars.get_label(): len(bars.lines[0].get_xdata()) for bars in ax.containers}
        more = int(model == MODELS[1])
        assert points == {name: 2 + more * (name in METHODS[:2]) for name in METHODS[:4]}


@pytest.mark.parametrize("model", MODELS)
def test_a_study_is_read_back_from_the_picture(data, model):
    study = LayerStudy.load(data / f"study_{model}.json")
    left, right = plot_study(study)
    rows = [text.get_text() for text in left.get_yticklabels()]
    kinds = sorted({(o.width, o.bias) for o in study.outcomes})
    assert len(left.containers) == len(right.containers) == len(kinds) > 1
    for kind, chosen, ranked in zip(kinds, left.containers, right.containers, strict=True):
        by_row = {
            f"{o.states}, {o.points}: {o.rule}": o.regret
            for o in study.outcomes
            if (o.width, o.bias) == kind
        }
        rhos = {
            f"{c.states}, {c.points}": c.rho
            for c in study.correlations
            if (c.width, c.bias) == kind
        }
        for bars, name_of, wanted in (
            (chosen, str, by_row),
            (ranked, lambda row: row.partition(":")[0], rhos),
        ):
            (whiskers,) = bars.lines[2]
            drawn = {}
            for x, ((low, y), (high, _)) in zip(
                bars.lines[0].get_xdata(), whiskers.get_segments(), strict=True
            ):
                drawn[name_of(rows[round(y)])] = pytest.approx((x, low, high))
            assert {
                row: (i.value, i.low, i.high)
                for row, i in wanted.items()
                if not row.startswith("None")
            } == drawn
        label = f"{kind[0]} layer{'s' * (kind[0] > 1)}, bias {kind[1]:g}"
        assert chosen.get_label() == ranked.get_label() == label


def words(figure):
    """Every visible word of a figure, with its box in dots."""
    figure.canvas.draw()
    beyond = set()  # ticks outside the axis, which matplotlib keeps but does not draw
    for axis in (
        axis for ax in figure.findobj(matplotlib.axes.Axes) for axis in (ax.xaxis, ax.yaxis)
    ):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        beyond |= {
            t
            for tick in ticks
            if not low <= tick.get_loc() <= high
            for t in (tick.label1, tick.label2)
        }
    found = [
        text
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text().strip()
    ]
    return [(text.get_text(), text.get_window_extent()) for text in found if text not in beyond]


@pytest.mark.parametrize(
    "name",
    [
        "methods",
        "lengths",
        "depth",
        "regret",
        "similarity",
        "geometry",
        "kv_ranks",
        "kv_similarity",
    ],
)
def test_no_words_overlap_or_leave_the_figure(data, name):
    with matplotlib.rc_context(kvlens.plots.STYLE):
        figure = FIGURES[name](data)[0]
        found = words(figure)
    whole = figure.bbox.padded(2)
    for i, (text, box) in enumerate(found):
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text
        for other, there in found[:i]:
            shared = box.intersection(box, there)
            assert shared is None or min(shared.width, shared.height) < 2, (text, other)


def test_what_has_no_data_is_left_out_with_a_message(tmp_path):
    with redirect_stdout(io.StringIO()) as out:
        assert build(tmp_path, tmp_path / "figures") == []
    assert len(out.getvalue().splitlines()) == len(FIGURES)
    assert f"methods: left out, {tmp_path} has no scores_* yet" in out.getvalue()


def test_collect_takes_what_is_drawn_and_no_more(tmp_path):
    lm, run, lines = (
        tiny("llama"),
        tmp_path / "run",
        [f"text {i} {'la ' * (i % 5)}" for i in range(60)],
    )
    shift = attention_shift(lm, lines[:20], (1, 2))
    patterns, trace = attention_patterns(lm, "a cat", (1, 2)), kvlens.record(lm, lines)
    with made_by("kvlens profile x -o /tmp/secret --n 30"):
        layer_set = kvlens.select(kvlens.estimate(trace))
    results = {
        "layers": layer_set,
        "shift-text": shift,
        "patterns": patterns,
        "lens": kv_lens(trace),
    }
    results |= {"scores": fake_scores(layer_set, 0), "sweep": fake_sweep(layer_set)}
    for kind, one in results.items():
        (run / KINDS[kind][1]).parent.mkdir(parents=True, exist_ok=True)
        one.save(run / KINDS[kind][1])
    paths = collect(run, tmp_path / "data")
    assert [path.name.partition("_")[0] for path in paths] == [
        kind for kind in KINDS if kind in results
    ]
    assert all(path.stem.endswith("_tiny-llama") for path in paths)
    found = {
        path.name.partition("_")[0]: KINDS[path.name.partition("_")[0]][0].load(path)
        for path in paths
    }
    assert found["layers"] == layer_set.model_copy(
        update={"command": "kvlens profile x -o runs/tiny-llama --n 30"}
    )
    assert found["sweep"].command == "kvlens sweep MODEL -o runs/tiny-llama/sweep.json"
    for kind in ("local", "propagated"):
        for before, after in zip(shift.ends(kind), found["shift-text"].ends(kind), strict=True):
            np.testing.assert_allclose(after, before, rtol=1e-5)
        mean = shift.arrays[f"beta.{kind}.mean"].mean(1)
        np.testing.assert_allclose(
            found["shift-text"].arrays[f"beta.{kind}.mean"][:, 0], mean, rtol=1e-6
        )
    np.testing.assert_allclose(
        found["patterns"].arrays["after"][:, 0], patterns.arrays["after"].mean(1), rtol=1e-6
    )
    assert {s.head for s in found["lens"].spectra} == {None}
    assert isinstance(found["lens"], KVLens)
    assert [w.spearman for w in found["sweep"].windows] == [
        w.spearman for w in results["sweep"].windows
    ]
    assert {w.cosines for w in found["sweep"].windows} == {()}


def test_interactive_pictures_hold_the_same_numbers_and_escape_tokens():
    lm = tiny("llama")
    shift, patterns = (
        attention_shift(lm, ["one text", "<b>two</b> texts"], (0, 3)),
        attention_patterns(lm, "a<b>&", (0, 3)),
    )
    (image,) = beta_html(shift).data
    np.testing.assert_array_equal(image.z, shift.arrays["beta.local.mean"].mean(1))
    top = shift.arrays["beta.local.mean"][1, :, 0]
    assert f"most in head {top.argmax()}: {top.max():.3f}" in image.text[1][0]
    before, after = patterns_html(patterns, 3, head=1).data
    n = len(patterns.tokens)
    for shown, kind, column in ((before, "before", 0), (after, "after", 1)):
        weights = patterns.arrays[kind][1, 1]
        assert shown.z.shape == (n, n + column)
        np.testing.assert_allclose(np.nan_to_num(shown.z) ** 2, weights, atol=1e-6)
        assert np.isnan(shown.z).sum() == n * (n - 1) / 2  # the future
    assert patterns_html(patterns, 0).layout.xaxis2.ticktext[0] == "prefix"
    assert "&lt;" in patterns_html(patterns, 0).layout.xaxis.ticktext
    with pytest.raises(kvlens.InputError, match="no pattern of layer 1"):
        patterns_html(patterns, 1)
