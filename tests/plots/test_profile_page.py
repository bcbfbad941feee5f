import numpy as np
import pytest
from profile_cases import CHOSEN, MARKED, OTHER, PROFILE, STDERR, U

from kvlens.layers.selection import select
from kvlens.plots.profile_page import profile_html


@pytest.mark.slow
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


def test_b_star_and_stability_are_on_the_page():
    chosen = select(MARKED)
    figure = profile_html(MARKED, chosen)
    by_name = {trace.name: trace for trace in figure.data}
    line = by_name["b*: writes the massive activation"]
    assert list(line.x) == [12, 12]
    strip = by_name["strip: share of 50 draws"]
    assert dict(zip(strip.x.tolist(), strip.y.tolist(), strict=True)) == chosen.stability.taken
    assert strip.text[0].startswith(f"layer {min(chosen.stability.taken)}: in ")
    below, curves = figure.layout.yaxis2.domain, figure.layout.yaxis.domain
    assert below[1] < curves[0]
    assert "writes position 0's massive activation" in figure.layout.annotations[0].text.replace(
        "<br>", " "
    ).replace("&#x27;", "'")
    plain = profile_html(PROFILE, CHOSEN)
    assert "yaxis2" not in plain.layout
    assert len(plain.data) == 5
