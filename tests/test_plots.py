from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from test_layers import GEMMA, SMOLLM2, U, make_profile

from kvlens.layers.selection import select
from kvlens.plots.profile import plot_profile
from kvlens.plots.profile_page import profile_html
from kvlens.plots.saving import save_profile_plots
from kvlens.plots.style import COLOURS
from kvlens.store.errors import InputError

STDERR = np.linspace(0.2, 0.6, 30)
PROFILE = make_profile(
    U,
    STDERR,
    mle=U - 1,
    warn={3: "no plateau: GRIDE 3", 4: "no plateau: GRIDE 4"},
    name="model-30",
    dropped=4,
)
CHOSEN = select(PROFILE)  # layers 11-14
OTHER = make_profile(GEMMA, 0.5, name="model-18", n=690)
LONG = make_profile(
    np.linspace(8, 30, 80),
    0.3,
    name="an-organisation/" + "a-very-long-model-name-" * 4 + "80-layers",
)


def full_lines(ax):
    return [line for line in ax.get_lines() if line.get_linestyle() != "None"]


def spans(ax):
    return [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]


def texts(ax):
    words = [*ax.texts, *ax.get_legend().get_texts(), ax.xaxis.label, ax.yaxis.label]
    return " ".join(" ".join(t.get_text().replace("\xa0", " ").split()) for t in words)


def test_curves_bands_and_chosen_layers_are_the_data():
    ax = plot_profile(PROFILE, CHOSEN)
    for line, band, name in zip(full_lines(ax), ax.collections, ("twonn", "mle"), strict=True):
        v, e = PROFILE.values(name), PROFILE.stderrs(name)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(30))
        np.testing.assert_array_equal(line.get_ydata(), v)
        edges = {tuple(np.round(p, 9)) for p in band.get_paths()[0].vertices}
        for sign in (-1, 1):
            assert {
                tuple(np.round(p, 9)) for p in zip(np.arange(30), v + sign * 1.96 * e, strict=True)
            } <= edges
    assert spans(ax) == [(10.5, 14.5)]
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > (U + 1.96 * STDERR).max()
    said = texts(ax)
    for part in ("TwoNN", "MLE", "chosen: layers 11-14", "model-30, 30 layers", "final token", "n = 1,000 texts",
                 "(996 points a layer)", "±1.96 standard errors", "rule paper",
                 "layer (0-based block index)", "intrinsic dimension", "Hollow: in doubt (no plateau)."):  # fmt: skip
        assert part in said, part


def test_estimates_with_warnings_are_hollow():
    hollow = [
        line
        for line in plot_profile(PROFILE).get_lines()
        if to_rgba(line.get_markerfacecolor()) == (1, 1, 1, 1)
    ]
    assert [list(line.get_xdata()) for line in hollow] == [[3, 4], [3, 4]]
    sound = plot_profile(OTHER)
    assert "Hollow" not in texts(sound)


def test_separate_layers_are_shaded_apart_and_nothing_is_without_a_layer_set():
    assert spans(plot_profile(OTHER, select(OTHER))) == [(11.5, 12.5), (14.5, 15.5)]
    plain = plot_profile(OTHER)
    assert spans(plain) == []
    assert "chosen" not in texts(plain)
    np.testing.assert_allclose(
        spans(plot_profile(PROFILE, CHOSEN, relative_depth=True)), [(10.5 / 29, 14.5 / 29)]
    )


def test_several_models_share_relative_depth_with_a_colour_each():
    ax = plot_profile([PROFILE, OTHER, LONG], [CHOSEN, select(OTHER), None])
    lines = full_lines(ax)
    assert [line.get_color() for line in lines] == list(COLOURS[:3])
    for line, n in zip(lines, (30, 18, 80), strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.arange(n) / (n - 1))
    marked = [
        c.get_offsets() for c in ax.collections if len(c.get_offsets()) > 0 and len(c.get_sizes())
    ]
    np.testing.assert_allclose(marked[0], np.column_stack([np.arange(11, 15) / 29, U[11:15]]))
    np.testing.assert_allclose(marked[1], np.column_stack([[12 / 17, 15 / 17], [10.9, 11.0]]))
    said = texts(ax)
    for part in ("model-30", "model-18", "80-layers", "chosen layers", "relative depth", "n = 690"):
        assert part in said, part
    by_layer = plot_profile([PROFILE, OTHER], relative_depth=False)
    np.testing.assert_array_equal(full_lines(by_layer)[1].get_xdata(), np.arange(18))


def test_profiles_of_one_model_are_told_apart():
    ax = plot_profile([PROFILE, make_profile(SMOLLM2, name="model-30", points="mean", dropped=4)])
    labels = [t.get_text().replace("\n", " ") for t in ax.get_legend().get_texts()]
    assert labels == ["model-30, final token", "model-30, mean over tokens"]


@pytest.mark.parametrize("width", [3.3, 5.0, 6.9])
@pytest.mark.parametrize(
    ("profiles", "layer_sets"),
    [
        (PROFILE, CHOSEN),
        ([PROFILE, OTHER, LONG], None),
        (LONG, select(LONG)),
        ([make_profile(SMOLLM2 + i, name=f"model {i}") for i in range(9)], None),
        (make_profile([7.0]), None),
    ],
    ids=["one", "three", "long", "nine", "single layer"],
)
def test_nothing_overlaps_or_leaves_the_page(profiles, layer_sets, width):
    ax = plot_profile(profiles, layer_sets, width=width)
    figure = ax.figure
    figure.canvas.draw()
    page, inner = figure.bbox, ax.get_window_extent()
    legend, caption = ax.get_legend().get_window_extent(), ax.texts[0].get_window_extent()
    label = ax.xaxis.label.get_window_extent()
    for box in (legend, caption, label, ax.yaxis.label.get_window_extent()):
        assert box.x0 >= page.x0 - 1
        assert box.y0 >= page.y0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y1 <= page.y1 + 1
    assert legend.y0 >= inner.y1 - 1
    assert caption.y1 <= label.y0
    assert inner.width > 0.7 * page.width
    assert inner.height > 0.3 * page.width
    ticks = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    assert all(a.x1 < b.x0 for a, b in pairwise(ticks))
    assert (
        min(
            t.get_fontsize()
            for t in (*ax.get_xticklabels(), *ax.get_legend().get_texts(), *ax.texts)
        )
        >= 7
    )
    if not isinstance(profiles, list):
        assert all(
            float(t).is_integer() and 0 <= t < profiles.model.n_layers for t in ax.get_xticks()
        )


def test_the_users_axes_are_used_and_nothing_global_changes():
    before = dict(matplotlib.rcParams)
    figure = Figure(layout="constrained")
    first, second = figure.subplots(1, 2)
    assert plot_profile(PROFILE, CHOSEN, ax=first) is first
    figure.canvas.draw()
    assert not second.has_data()
    assert first.texts[0].get_window_extent().x1 <= second.get_window_extent().x0
    plot_profile([PROFILE, OTHER])
    assert dict(matplotlib.rcParams) == before


def test_dollars_and_underscores_in_a_name_are_text():
    odd = [make_profile(U, name="_a $\\frac{x}$ b"), make_profile(U, name="c")]
    ax = plot_profile(odd)
    ax.figure.canvas.draw()
    assert ax.get_legend().get_texts()[0].get_text() == "_a $\\frac{x}$ b"


def test_what_cannot_be_drawn():
    for profiles, layer_sets, said in (
        ([], None, "0 profiles"),
        ([PROFILE, OTHER], [CHOSEN], "2 profiles and 1 layer sets"),
        (OTHER, CHOSEN, "layer set of model-30 does not fit model-18"),
    ):
        for draw in (plot_profile, profile_html):
            with pytest.raises(InputError, match=said):
                draw(profiles, layer_sets)


def test_html_figure_shows_the_same_and_tells_more_on_hover():
    figure = profile_html(PROFILE, CHOSEN)
    band, curve, _, mle, key = figure.data
    np.testing.assert_array_equal(curve.y, PROFILE.values("twonn"))
    np.testing.assert_allclose(band.y, np.r_[U + 1.96 * STDERR, (U - 1.96 * STDERR)[::-1]])
    assert (curve.name, mle.name, key.name) == ("TwoNN", "MLE", "chosen: layers 11-14")
    assert [(s.x0, s.x1) for s in figure.layout.shapes] == [(10.5, 14.5)]
    assert curve.text[3] == (
        "<b>TwoNN</b>, layer 3<br>ID 11.42 ± 0.24 (standard error)<br>"
        "n = 996 points, 4 duplicates dropped<br>warning: no plateau: GRIDE 3"
    )
    assert "layer 11 (chosen)" in curve.text[11]
    assert [i for i, c in enumerate(curve.marker.color) if c == "white"] == [3, 4]
    several = profile_html([PROFILE, OTHER], [CHOSEN, None])
    assert [i for i, size in enumerate(several.data[1].marker.size) if size > 7] == [11, 12, 13, 14]


def test_saved_files(tmp_path):
    hostile = make_profile(
        U, STDERR, name="</script><script>alert(1)</script>", warn={2: "<img src=x>"}
    )
    paths = save_profile_plots(hostile, select(hostile), tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["layer_id.png", "layer_id.pdf", "layer_id.html"]
    png, pdf, html = paths
    assert imread(png).shape[1] == 1000
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content
    page = html.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]*\s(src|href)\s*=", page.replace("\\u003c", ""))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page.replace("\\u0026", "&")
    assert '"showSendToCloud": false' in page
    for trace in profile_html([hostile, OTHER]).data:
        assert not re.search("<(script|img)", (trace.name or "") + "".join(trace.text or ()))
    with pytest.raises(InputError, match="cannot write"):
        save_profile_plots(hostile, None, png)


def test_same_input_same_bytes_in_another_process_without_a_display(tmp_path):
    here = save_profile_plots(PROFILE, CHOSEN, tmp_path / "here")
    CHOSEN.save(tmp_path / "layers.json")
    code = (
        "import sys; from kvlens.layers.layer_set import LayerSet; from kvlens.plots.saving import save_profile_plots\n"
        "s = LayerSet.load(sys.argv[1]); save_profile_plots(s.profile, s, sys.argv[2])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k and k != "MPLBACKEND"}
    environment["PYTHONHASHSEED"] = "7"
    command = [sys.executable, "-c", code, str(tmp_path / "layers.json"), str(tmp_path / "there")]
    subprocess.run(command, check=True, env=environment)
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name
