"""The picture of a decimation shows its numbers, inside the figure."""

import numpy as np
import pytest
from profile_cases import PROFILE, SMOLLM2, make_profile

from kvlens.dimension.draws import Draws
from kvlens.plots.decimation import plot_decimation
from kvlens.plots.saving import save_profile_plots
from kvlens.store.errors import InputError


def decimated():
    profile = make_profile(SMOLLM2, mle=SMOLLM2 - 2, name="an-organisation/model-30", n=1000)
    rng = np.random.default_rng(0)
    levels = []
    for cuts in (2, 4, 8):
        drawn = {
            name: tuple(
                tuple((profile.values(name) * 0.93 ** np.log2(cuts) + error).round(3).tolist())
                for error in rng.normal(0, 0.05 * cuts, (min(cuts, 4), 30))
            )
            for name in profile.estimates
        }
        levels.append(Draws(n=1000 // cuts, seed=0, values=drawn))
    return profile.model_copy(update={"decimation": tuple(levels)})


def test_a_line_a_layer():
    profile = decimated()
    ax = plot_decimation(profile, "mle")
    sizes, values = profile.decimated("mle")
    assert len(ax.lines) == 30
    for line, drawn in zip(ax.lines, values.T, strict=True):
        assert np.array_equal(line.get_xdata(), sizes)
        assert np.array_equal(line.get_ydata(), drawn)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["125", "250", "500", "1,000"]
    assert "MLE" in ax.get_ylabel()


def test_words_are_inside_the_figure():
    ax = plot_decimation(decimated())
    ax.figure.draw_without_rendering()
    caption = ax.figure.get_supxlabel()
    assert "Spearman between n/2 and n" in caption
    for artist in (ax.figure._supxlabel, ax.yaxis.label, ax.xaxis.label):
        box = artist.get_window_extent()
        assert ax.figure.bbox.x0 <= box.x0
        assert box.x1 <= ax.figure.bbox.x1


def test_beside_the_curve_of_the_profile(tmp_path):
    paths = save_profile_plots([decimated()], None, tmp_path)
    names = [path.name for path in paths]
    assert names[2:] == ["layer_id_by_n.png", "layer_id_by_n.pdf", "layer_id.html"]
    with pytest.raises(InputError, match="no decimation"):
        plot_decimation(PROFILE)
    with pytest.raises(InputError, match="estimator"):
        plot_decimation(decimated(), "lpca")
