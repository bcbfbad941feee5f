"""Doubts: what speaks against an estimate.

A warning starts with its kind and a colon (see `kvlens.dimension.profile.warning_kind`).
"""

from __future__ import annotations

import numpy as np

from kvlens.dimension.profile import ScaleProfile

# The reading at which the mean estimate on a uniform ball is 20 % below the ball's dimension, by
# number of points. Measured by simulation: at each n, balls of 7 to 9 different dimensions around
# the crossing, 1,500 seeded sets of points each (n = 50) down to 3 (n = 10,000) and 1 (n = 30,000);
# crossing interpolated, good to about 4 %.
BALL_POINTS = (50, 100, 300, 1000, 3000, 10000, 30000)
BALL_LIMITS = {
    "twonn": (9.8, 10.7, 13.0, 16.0, 17.7, 21.9, 23.5),
    "mle": (2.8, 4.3, 6.8, 9.7, 12.4, 15.5, 18.3),
}

# Two scales differ when by over 10 % and by over three standard errors: false alarms on balls,
# spheres and swiss rolls at most 5 %.
SCALE_CHANGE = 0.1
SCALE_STDERRS = 3
SHORTEST_PLATEAU = 3  # scales

MANY_COPIES = 0.05  # share of the points

NOT_INDEPENDENT = (
    "not independent: the points are tokens of shared texts, the standard error is too small"
)


def too_small(estimator: str, value: float, n: int) -> str | None:
    """A warning when a uniform ball that reads `value` with n points reads over 20 % low.

    None for estimators of which that was not measured.
    """
    if estimator not in BALL_LIMITS:
        return None
    limit = np.interp(np.log(n), np.log(BALL_POINTS), BALL_LIMITS[estimator])
    if value <= limit:
        return None
    return f"n too small: values above {limit:.1f} from {n} points are over 20 % too low"


def many_copies(dropped: int, total: int) -> str | None:
    """A warning when over 5 % of the points were copies of others."""
    if dropped <= MANY_COPIES * total:
        return None
    return f"duplicates: {dropped} of {total} points are copies of others and were dropped"


def off_plateau(reach: int, scales: ScaleProfile) -> str | None:
    """A warning when no three neighbouring scales agree, or when the estimator's own is not one.

    Args:
        reach: the estimator looks at neighbours up to this rank.
        scales: of the same points.

    Returns:
        The warning, or None.
    """
    values = np.array(scales.values)
    ranks = scales.neighbours
    plateaus = _plateaus(scales)
    if not plateaus:
        return (
            f"no plateau over scales: GRIDE goes from {values[0]:.1f} ({ranks[0]} neighbours) "
            f"to {values[-1]:.1f} ({ranks[-1]})"
        )
    at = max(i for i, rank in enumerate(ranks) if rank <= reach)
    if any(at in plateau for plateau in plateaus):
        return None
    widest = max(plateaus, key=len)
    return (
        f"off the plateau: GRIDE reads {values[at]:.1f} at {ranks[at]} neighbours, "
        f"{values[widest].mean():.1f} over {ranks[widest[0]]} to {ranks[widest[-1]]}"
    )


def _plateaus(scales: ScaleProfile) -> list[np.ndarray]:
    """Runs of at least three neighbouring scales that agree, as positions in `scales`."""
    values = np.array(scales.values)
    errors = np.array(scales.stderrs)
    step = np.abs(np.diff(values))
    large = step > SCALE_CHANGE * values[:-1]
    clear = step > SCALE_STDERRS * np.hypot(errors[1:], errors[:-1])
    breaks = 1 + np.flatnonzero(large & clear)
    runs = np.split(np.arange(len(values)), breaks)
    return [run for run in runs if len(run) >= SHORTEST_PLATEAU]
