"""Layers that cannot be re-routed are greyed, and named once; nothing where all can."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from profile_cases import STDERR, U, make_profile

from kvlens.layers.selection import select
from kvlens.plots.profile import plot_profile
from kvlens.plots.profile_page import profile_html
from kvlens.plots.style import UNABLE, UNABLE_ALPHA
from kvlens.plots.words import UNABLE_LAYERS

ABLE = (3, 7, 8, 29)
GREYED = [(-0.5, 2.5), (3.5, 6.5), (8.5, 28.5)]
HYBRID = make_profile(U, STDERR, mle=U - 1, name="hybrid", able=ABLE)
PLAIN = make_profile(U, STDERR, mle=U - 1, name="hybrid")


def greyed(ax):
    colour = to_rgba(UNABLE, UNABLE_ALPHA)
    bands = [patch for patch in ax.patches if patch.get_facecolor() == colour]
    return [(band.get_x(), band.get_x() + band.get_width()) for band in bands]


def legend_entries(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("width", [3.3, 6.9])
def test_a_hybrid_is_greyed_but_for_the_layers_that_can(width):
    ax = plot_profile(HYBRID, select(HYBRID, "lowest-k"), width=width)
    np.testing.assert_allclose(greyed(ax), GREYED)
    assert legend_entries(ax).count(UNABLE_LAYERS) == 1
    figure = ax.figure
    figure.draw_without_rendering()
    page = figure.bbox
    legend = ax.get_legend().get_window_extent()
    assert page.x0 <= legend.x0
    assert legend.x1 <= page.x1
    assert legend.y1 <= page.y1 + 1
    assert legend.y0 >= ax.get_window_extent().y1 - 1


def test_over_relative_depth_and_of_several_profiles_of_one_model():
    ax = plot_profile([HYBRID, HYBRID])
    np.testing.assert_allclose(greyed(ax), np.array(GREYED) / 29)
    assert legend_entries(ax).count(UNABLE_LAYERS) == 1


@pytest.mark.parametrize("profiles", [PLAIN, [PLAIN, HYBRID]])
def test_nothing_is_greyed_where_all_can_and_of_several_models(profiles):
    ax = plot_profile(profiles)
    assert greyed(ax) == []
    assert UNABLE_LAYERS not in legend_entries(ax)
    page = profile_html(profiles)
    assert UNABLE_LAYERS not in [trace.name for trace in page.data]


def test_the_page_shows_the_same():
    page = profile_html(HYBRID)
    bands = [(shape.x0, shape.x1) for shape in page.layout.shapes if shape.fillcolor == UNABLE]
    np.testing.assert_allclose(bands, GREYED)
    assert [trace.name for trace in page.data].count(UNABLE_LAYERS) == 1
