from pathlib import Path

import numpy as np
import pytest

from kvlens import Geometry
from kvlens.plots.geometry import plot_geometry, plot_sentences

DATA = Path(__file__).parents[1] / "data" / "v0.1.0"


@pytest.fixture(scope="module")
def geometry():
    return Geometry.load(DATA / "geometry.json")


def test_a_method_lies_where_it_was_measured(geometry):
    isotropy, evenness, uniform = plot_geometry(geometry)
    for i, row in enumerate(geometry.methods):
        assert isotropy.lines[i].get_xdata() == row.mean_cosine
        assert evenness.lines[i].get_xdata() == row.eigenvalue_entropy_ratio
        assert uniform.lines[i].get_xydata().tolist() == [[row.alignment, row.uniformity]]


def test_without_pairs_uniformity_stands_alone(geometry):
    rows = tuple(row.model_copy(update={"alignment": None}) for row in geometry.methods)
    alone = geometry.model_copy(update={"methods": rows})
    assert plot_geometry(alone)[2].lines[1].get_xdata() == alone.methods[1].uniformity


def test_sentences_share_colours_and_tell_their_gap(geometry):
    axes = plot_sentences(geometry)
    lowest = np.min([*geometry.cosines.values()])
    same_topic = np.equal.outer(np.arange(12) // 3, np.arange(12) // 3)
    for ax, (label, values) in zip(axes, geometry.cosines.items(), strict=True):
        cosines = np.array(values)
        np.testing.assert_array_equal(ax.images[0].get_array(), cosines)
        low, high = ax.images[0].get_clim()
        assert high == 1
        assert low <= lowest < low + 0.1
        inside = cosines[same_topic & ~np.eye(12, dtype=bool)].mean()
        across = cosines[~same_topic].mean()
        folded = label.replace(" (", "\n(")
        assert ax.get_title() == f"{folded}\ngap {round(inside - across, 2) + 0.0:.2f}"
