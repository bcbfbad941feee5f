from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from profile_cases import CHOSEN, LONG, MARKED, OTHER, PROFILE, SMOLLM2, STDERR, U, make_profile

from kvlens.layers.selection import select
from kvlens.plots.profile import plot_profile
from kvlens.plots.profile_page import profile_html
from kvlens.plots.style import COLOURS
from kvlens.store.errors import InputError

SAID = (
    "TwoNN",
    "MLE",
    "chosen: layers 11-14",
    "model-30, 30 layers",
    "final token",
    "n = 1,000 texts",
    "(996 points a layer)",
    "±1.96 standard errors",
    "rule paper",
    "layer (0-based block index)",
    "intrinsic dimension",
    "Hollow: in doubt (no plateau).",
)


EXPLICIT = select(MARKED, "explicit", layers=[3])


def full_lines(ax):
    return [line for line in ax.get_lines() if line.get_linestyle() != "None"]


def spans(ax):
    return [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]


def texts(ax):
    words = [*ax.texts, *ax.get_legend().get_texts(), ax.xaxis.label, ax.yaxis.label]
    return " ".join(" ".join(t.get_text().replace("\xa0", " ").split()) for t in words)


def test_curves_bands_and_chosen_layers_are_the_data():
    ax = plot_profile(PROFILE, CHOSEN)
    layers = np.arange(30)
    for line, band, name in zip(full_lines(ax), ax.collections, ("twonn", "mle"), strict=True):
        v = PROFILE.values(name)
        e = PROFILE.stderrs(name)
        np.testing.assert_array_equal(line.get_xdata(), layers)
        np.testing.assert_array_equal(line.get_ydata(), v)
        edges = {tuple(np.round(p, 9)) for p in band.get_paths()[0].vertices}
        for sign in (-1, 1):
            edge = np.column_stack([layers, v + sign * 1.96 * e])
            assert {tuple(point) for point in np.round(edge, 9)} <= edges
    assert spans(ax) == [(10.5, 14.5)]
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > (U + 1.96 * STDERR).max()
    said = texts(ax)
    for part in SAID:
        assert part in said, part


def test_b_star_is_a_line_and_stability_a_strip():
    chosen = select(MARKED)
    ax = plot_profile(MARKED, chosen)
    (line,) = [line for line in ax.get_lines() if list(line.get_xdata()) == [12, 12]]
    assert line.get_linestyle() == "--"  # of any dashes
    (strip,) = ax.child_axes
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in strip.patches}
    assert bars == pytest.approx(chosen.stability.taken)
    assert (strip.get_xlim(), strip.get_ylim()) == (ax.get_xlim(), (0, 1))
    said = texts(ax)
    for part in (
        "b*: writes the massive activation",
        "block 12 writes position 0's massive activation (98 % of the texts)",
        "strip: share of 50 draws",
        "50 draws of 500 texts each in which the rule takes the layer",
    ):
        assert part in said, part
    relative = plot_profile(MARKED, chosen, relative_depth=True)
    assert any(list(line.get_xdata()) == [12 / 29, 12 / 29] for line in relative.get_lines())
    first = relative.child_axes[0].patches[0]
    assert (first.get_x() + first.get_width() / 2) * 29 == pytest.approx(min(bars))


def test_what_is_not_known_is_not_marked():
    for profile, layer_set in ((PROFILE, CHOSEN), (MARKED, None), (MARKED, EXPLICIT)):
        ax = plot_profile(profile, layer_set)
        assert not ax.child_axes
        assert "draws" not in texts(ax)
    assert "massive" not in texts(plot_profile(PROFILE))
    without = MARKED.sink.model_copy(update={"block": None})
    nowhere = plot_profile(MARKED.model_copy(update={"sink": without}))
    assert len(full_lines(nowhere)) == 1
    assert "No block writes a massive activation at position 0." in texts(nowhere)
    several = plot_profile([MARKED, OTHER], [select(MARKED), None])
    assert not several.child_axes
    assert len(full_lines(several)) == 2


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
        (MARKED, select(MARKED)),
    ],
    ids=["one", "three", "long", "nine", "single layer", "marked"],
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
    for strip in ax.child_axes:
        assert strip.get_window_extent().y1 < inner.y0
        assert strip.get_window_extent().y0 > max(tick.y1 for tick in ticks)
        assert strip.get_window_extent().width == pytest.approx(inner.width)
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
        ([], None, "give a profile"),
        ([PROFILE, OTHER], [CHOSEN], "2 profiles and 1 layer sets"),
        (OTHER, CHOSEN, "layer set of model-30 does not fit model-18"),
    ):
        for draw in (plot_profile, profile_html):
            with pytest.raises(InputError, match=said):
                draw(profiles, layer_sets)
