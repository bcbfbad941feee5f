"""Named: every estimator of scikit-dimension by its name, as it comes."""

import numpy as np
import pytest
import skdim.id
from manifolds import ball, embed, trace_of_balls

from kvlens.dimension.estimation import estimate, estimate_points
from kvlens.dimension.named import canonical, named
from kvlens.dimension.profile import NoEstimate
from kvlens.store.errors import InputError

POINTS = embed(ball(80, 3, seed=0), 7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lPCA", {"verbose": False}),
        ("CorrInt", {}),
        ("MiND_ML", {"D": 7}),
        ("MOM", {}),
        ("MADA", {}),
        ("TLE", {}),
        pytest.param("FisherS", {}, marks=pytest.mark.slow),
        ("KNN", {"random_state": 0}),
        pytest.param("ESS", {"random_state": 0}, marks=pytest.mark.slow),
        ("GRIDE", {}),
    ],
)
def test_values_are_scikit_dimensions(name, options, capsys):
    estimates, _ = estimate_points(POINTS, (name,))
    (estimate,) = estimates.values()
    truth = getattr(skdim.id, name)(**options).fit(POINTS).dimension_
    assert list(estimates) == [name.lower()]
    assert estimate.value == pytest.approx(truth, rel=1e-9)
    assert estimate.stderr >= 0
    assert capsys.readouterr().out == ""


def test_copies_are_dropped_first():
    with_copies = np.r_[POINTS, POINTS[:5]]
    estimates, _ = estimate_points(with_copies, ("mom", "twonn"))
    assert estimates["mom"].value == pytest.approx(named("mom").value(POINTS), rel=1e-9)
    assert estimates["mom"].dropped == 5
    assert [text.partition(":")[0] for text in estimates["mom"].warnings] == ["duplicates"]


def test_errors_are_of_the_size_of_formulas():
    """Up to the root of two larger, and good to a quarter."""
    points = ball(400, 5, seed=1)
    estimates, _ = estimate_points(points, ("twonn", "gride"))
    assert 0.6 < estimates["gride"].stderr / estimates["twonn"].stderr < 2


def test_unknown_names_are_refused_in_one_line():
    with pytest.raises(InputError) as refused:
        canonical(("twonn", "nope"))
    message = str(refused.value)
    assert message.startswith("unknown estimator 'nope': the known ones are twonn, mle, corrint")
    assert "\n" not in message
    assert canonical(("lPCA", "TwoNN")) == ("lpca", "twonn")


def test_a_failure_names_estimator_and_layer():
    with pytest.raises(NoEstimate, match="mada came out as"):
        named("mada").value(np.ones((60, 3)))
    with pytest.raises(NoEstimate, match="layer 3: lpca fails: "):
        estimate_points(np.arange(60.0)[:, None] ** 1.5, ("lpca",), layer=3)


def test_of_a_trace():
    profile = estimate(trace_of_balls(), estimators=("TwoNN", "lPCA"), draws=2)
    assert list(profile.estimates) == list(profile.draws.values) == ["twonn", "lpca"]
    points = trace_of_balls().states(2).astype(float)
    truth = skdim.id.lPCA(verbose=False).fit(points).dimension_
    assert profile.values("lpca")[2] == pytest.approx(truth)
    assert profile.drawn_values("lpca").shape == (2, 3)
