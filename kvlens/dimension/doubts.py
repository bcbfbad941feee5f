"""Doubts: what speaks against an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvlens.dimension.profile import ScaleProfile

if TYPE_CHECKING:
    pass


# The reading at which the mean estimate on a uniform ball is 20 % below the ball's dimension, by number of points.
# Measured by simulation: at each n, balls of 7 to 9 different dimensions around the crossing, 1,500 seeded sets of
# points each (n = 50) down to 3 (n = 10,000) and 1 (n = 30,000); crossing interpolated, good to about 4 %.
BALL_POINTS = (50, 100, 300, 1000, 3000, 10000, 30000)


BALL_LIMITS = {
    "twonn": (9.8, 10.7, 13.0, 16.0, 17.7, 21.9, 23.5),
    "mle": (2.8, 4.3, 6.8, 9.7, 12.4, 15.5, 18.3),
}


def _too_small(estimator: str, value: float, n: int) -> str | None:
    """A warning when a uniform ball that reads `value` with n points reads more than 20 % low (`BALL_LIMITS`)."""
    limit = np.interp(np.log(n), np.log(BALL_POINTS), BALL_LIMITS[estimator])
    return (
        f"n too small: values above {limit:.1f} from {n} points are over 20 % too low"
        if value > limit
        else None
    )


def _off_plateau(own: int, scales: ScaleProfile) -> str | None:
    """A warning when no three neighbouring scales agree, or when the estimator's own scale (`own` neighbours) is not
    among such. Two scales differ when by over 10 % and by over three standard errors (false alarms on
    balls, spheres and swiss rolls: at most 5 %)."""
    value, error, ranks = np.array(scales.values), np.array(scales.stderrs), scales.neighbours
    step = np.abs(np.diff(value))
    bounds = [
        0,
        *(
            1
            + np.flatnonzero(
                (step > 0.1 * value[:-1]) & (step > 3 * np.hypot(error[1:], error[:-1]))
            )
        ),
    ]
    runs = [
        range(a, b) for a, b in zip(bounds, [*bounds[1:], len(ranks)], strict=True) if b - a >= 3
    ]
    if not runs:
        ends = f"from {value[0]:.1f} ({ranks[0]} neighbours) to {value[-1]:.1f} ({ranks[-1]})"
        return f"no plateau over scales: GRIDE goes {ends}"
    at = max(i for i, rank in enumerate(ranks) if rank <= own)
    if any(at in run for run in runs):
        return None
    flat = max(runs, key=len)
    level, span = (
        value[flat.start : flat.stop].mean(),
        f"{ranks[flat.start]} to {ranks[flat.stop - 1]}",
    )
    return f"off the plateau: GRIDE reads {value[at]:.1f} at {ranks[at]} neighbours, {level:.1f} over {span}"
