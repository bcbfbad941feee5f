"""Doubts: a warning where balls and noise show that an estimate is off."""

import numpy as np
import pytest
from manifolds import ball, embed
from threadpoolctl import threadpool_limits

from kvlens.dimension.doubts import BALL_LIMITS, BALL_POINTS
from kvlens.dimension.estimation import estimate_points


@pytest.mark.parametrize(
    ("name", "n", "d", "runs"), [("twonn", 100, 13, 60), ("mle", 300, 9, 10), ("mle", 1000, 12, 3)]
)
def test_the_rule_for_too_few_points_is_what_balls_show(name, n, d, runs):
    limit = BALL_LIMITS[name][BALL_POINTS.index(n)]
    with threadpool_limits(1):
        estimates = [estimate_points(ball(n, d, seed=s), (name,))[0][name] for s in range(runs)]
    value = np.mean([estimate.value for estimate in estimates])
    assert value / d == pytest.approx(0.8, abs=0.03)
    assert value == pytest.approx(limit, rel=0.05)
    for estimate in estimates:
        warned = any(text.startswith("n too small") for text in estimate.warnings)
        assert warned == (estimate.value > limit)


def test_warnings_on_scales():
    def warnings(points):
        estimates, _ = estimate_points(points)
        return {name: " ".join(estimate.warnings) for name, estimate in estimates.items()}

    def noisy(points, sigma):
        wide = embed(points, 576)
        return wide + sigma * np.random.default_rng(0).standard_normal(wide.shape)

    for d in (2, 5, 8):
        assert not any("plateau" in text for text in warnings(ball(1000, d, seed=0)).values())
    for text in warnings(noisy(ball(1000, 2, 0), 0.01)).values():
        assert "no plateau over scales: GRIDE goes from" in text
    slight = warnings(noisy(ball(1000, 2, 0), 0.001))  # the noise reaches only the first neighbours
    assert "off the plateau: GRIDE reads" in slight["twonn"]
    assert "plateau" not in slight["mle"]
