"""Estimators: known manifolds, scikit-dimension's own answers, coverage of the errors."""

import numpy as np
import pytest
from manifolds import ball, embed, read, sphere, swiss_roll
from threadpoolctl import threadpool_limits

from kvlens.dimension.estimation import estimate_points
from kvlens.dimension.profile import NoEstimate

# (maker, dimension, mean TwoNN, mean MLE), n = 1,000, as published for scikit-dimension's
# estimators; the tolerances are three standard deviations of one set of points (4 % and 1.3 %).
MANIFOLDS = [
    (ball, 2, 1.98, 1.95),
    (ball, 5, 4.68, 4.53),
    (ball, 10, 8.84, 8.26),
    (ball, 20, 15.7, 14.3),
    (sphere, 5, 4.91, 4.79),
    (sphere, 10, 9.41, 8.73),
    (swiss_roll, 2, 2.02, 1.91),
]


@pytest.mark.parametrize(("make", "d", "twonn", "mle"), MANIFOLDS)
def test_known_manifolds(make, d, twonn, mle):
    points = make(1000, d, seed=3)
    plain = read(points)
    assert plain["twonn"] == pytest.approx(twonn, rel=0.12)
    assert plain["mle"] == pytest.approx(mle, rel=0.04)
    assert read(embed(points, 576)) == pytest.approx(plain, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "d"), [(ball, 10), (swiss_roll, 2)])
def test_embedding_in_4096_dimensions_with_an_offset_changes_nothing(make, d):
    points = make(1000, d, seed=4)
    wide = embed(points, 4096)
    assert read(wide) == pytest.approx(read(points), rel=1e-6)
    # As recorded: float32 resolves 6e-5 beside an offset of 1e3.
    assert read(wide.astype(np.float32)) == pytest.approx(read(points), rel=2e-3)


@pytest.mark.parametrize(("make", "d"), [(ball, 5), (sphere, 10), (swiss_roll, 2)])
def test_equals_scikit_dimension_on_clean_data(make, d):
    import skdim

    points = embed(make(500, d, seed=1), 40)
    points[:, 5] -= 1e3
    estimates, scales = estimate_points(points)
    gride = skdim.id.GRIDE(multiscale=True, range_max=64).fit(points)
    assert estimates["twonn"].value == pytest.approx(
        skdim.id.TwoNN().fit(points).dimension_, rel=1e-9
    )
    mle = skdim.id.MLE().fit(points, n_neighbors=20, comb="mle").dimension_
    assert estimates["mle"].value == pytest.approx(mle, rel=1e-9)
    assert scales.values == pytest.approx(gride.dimension_scales_, rel=1e-9)
    assert scales.neighbours == tuple(2 * gride.scales_)
    # scikit-dimension's errors take the points for independent, which wide neighbourhoods are not.
    assert scales.stderrs[-1] > 1.3 * gride.error_scales_[-1]


def test_degenerate_distances_are_named():
    corners = np.eye(100)  # all distances equal
    grid = np.indices((12, 12)).reshape(2, -1).T.astype(float)
    with pytest.raises(NoEstimate, match="layer 2: GRIDE finds only tied distances"):
        estimate_points(corners, layer=2)
    with pytest.raises(NoEstimate, match="tied"):
        estimate_points(grid)
    # The tenth that TwoNN discards is not tied.
    mostly = np.r_[np.c_[grid, np.zeros(144)], 100 + ball(14, 3, 0)]
    with pytest.raises(NoEstimate, match=r"twonn came out as 0"):
        estimate_points(mostly)


@pytest.mark.slow
def test_standard_errors_cover_the_estimators_mean():
    with threadpool_limits(1):
        runs = [estimate_points(ball(300, 5, seed=s)) for s in range(200)]
    for name in ("twonn", "mle"):
        value = np.array([run[0][name].value for run in runs])
        stderr = np.array([run[0][name].stderr for run in runs])
        assert 0.90 <= np.mean(np.abs(value - value.mean()) < 1.96 * stderr) <= 0.985
        assert stderr.mean() == pytest.approx(value.std(), rel=0.2)
    scales = np.array([run[1].values for run in runs]).std(axis=0)
    errors = np.array([run[1].stderrs for run in runs]).mean(axis=0)
    assert (errors > 0.85 * scales).all()
    assert (errors < 1.7 * scales).all()


def test_standard_errors_hold_for_the_fewest_points():
    """Where 20 neighbours are half of the points, the subtracted mean takes much variance."""
    with threadpool_limits(1):
        estimates = [estimate_points(ball(50, 5, seed=s))[0]["mle"] for s in range(200)]
    value = np.array([estimate.value for estimate in estimates])
    stderr = np.array([estimate.stderr for estimate in estimates])
    assert 0.93 <= np.mean(np.abs(value - value.mean()) < 1.96 * stderr) <= 0.995
