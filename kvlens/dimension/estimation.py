"""Intrinsic dimension (ID) per layer, by scikit-dimension, with standard errors and the reasons to doubt it.

1. drop copies of points, then find every point's nearest neighbours, once, exactly; 2. feed those distances to TwoNN
and MLE, and to GRIDE at growing scales; 3. take the standard errors from the neighbour graph; 4. say what speaks
against a value: too few points for it, no plateau over scales, many copies, points that are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kvlens.dimension.doubts import _off_plateau, _too_small
from kvlens.dimension.estimators import (
    _ESTIMATORS,
    MLE_NEIGHBOURS,
    _root_sandwich,
    _scales,
)
from kvlens.dimension.neighbours import _distinct_neighbours
from kvlens.dimension.profile import IDEstimate, IDProfile, NoEstimate, ScaleProfile
from kvlens.store.errors import InputError
from kvlens.store.provenance import versions

if TYPE_CHECKING:
    from kvlens.tracing.trace import Trace


def estimate(
    trace: Trace,
    states: str = "hidden",
    estimators: Sequence[str] = ("twonn", "mle"),
    progress: Callable[[int, int], None] | None = None,
) -> IDProfile:
    """Estimate the ID of every recorded layer; see `estimate_points`.

    states: hidden, k, k_pre, v or kv. progress: called with (layers done, layers). A layer without an estimate is
    left out and named in `IDProfile.skipped`.
    Raises InputError as `estimate_points` does, and when no layer has an estimate.
    """
    rows: dict[str, list[IDEstimate]] = {name: [] for name in estimators}
    scales, skipped = [], {}
    for done, layer in enumerate(trace.layers, 1):
        try:
            found, profile = estimate_points(trace.states(layer, states), estimators, layer)
        except NoEstimate as error:
            skipped[layer] = str(error).removeprefix(f"layer {layer}: ")
        else:
            scales.append(profile)
            for name, one in found.items():
                if trace.points == "all" and states == "hidden":
                    text = "not independent: the points are tokens of shared texts, the standard error is too small"
                    one = one.model_copy(update={"warnings": (*one.warnings, text)})
                rows[name].append(one)
        if progress:
            progress(done, len(trace.layers))
    if not scales:
        raise InputError(
            f"no layer has an ID estimate: {next(iter(skipped.values()), 'no layer was recorded')}"
        )
    return IDProfile(
        model=trace.model,
        states=states,
        points=trace.points if states == "hidden" else "last",
        prompt=trace.prompt,
        texts=trace.texts,
        estimates={name: tuple(row) for name, row in rows.items()},
        scales=tuple(scales),
        skipped=skipped,
        versions=versions(trace.versions),
    )


def estimate_points(
    X: np.ndarray, estimators: Sequence[str] = ("twonn", "mle"), layer: int = 0
) -> tuple[dict[str, IDEstimate], ScaleProfile]:
    """Estimate the ID of points ``[n, d]`` (any real dtype; float64 inside), which are said to be those of `layer`.

    twonn: Facco et al. 2017, the linear fit without the tenth of largest ratios; mle: Levina and Bickel 2005 over
    20 neighbours, inverse estimates averaged (MacKay and Ghahramani); both are scikit-dimension's. Exact and near
    copies of points are dropped first. Deterministic; memory is the points once or twice, never n x n.
    Raises InputError for an unknown estimator and for NaN or infinity; NoEstimate (an InputError) for fewer than
    50 distinct points and for distances so degenerate that an estimate is 0, NaN or infinite.
    """
    if unknown := [name for name in estimators if name not in _ESTIMATORS]:
        raise InputError(
            f"unknown estimator {unknown[0]!r}: the known ones are {', '.join(_ESTIMATORS)}"
        )
    if not estimators:
        raise InputError(f"no estimator given: the known ones are {', '.join(_ESTIMATORS)}")
    X = np.asarray(X)
    if X.ndim != 2 or not X.size:
        raise InputError(
            f"layer {layer}: points have to be an array [n, d], not of shape {list(X.shape)}"
        )
    if bad := len(X) - int(np.isfinite(X).all(axis=1).sum()):
        raise InputError(
            f"layer {layer}: NaN or infinity in {bad} of {len(X)} states: record again with --dtype float32"
        )
    distances, indices = _distinct_neighbours(X, layer)
    n, dropped = len(distances), len(X) - len(distances)
    scales = _scales(distances, indices, layer)
    estimates = {}
    for name in estimators:
        value, influence, k = _ESTIMATORS[name](distances, indices)
        if not (np.isfinite(value) and value > 0):
            raise NoEstimate(
                f"layer {layer}: {name} came out as {value:g}: the neighbour distances are degenerate"
            )
        doubts = [
            _too_small(name, value, n),
            _off_plateau(MLE_NEIGHBOURS if name == "mle" else 2, scales),
        ]
        if dropped > 0.05 * len(X):
            doubts.append(
                f"duplicates: {dropped} of {len(X)} points are copies of others and were dropped"
            )
        estimates[name] = IDEstimate(
            layer=layer,
            value=value,
            stderr=value**2 / n * _root_sandwich(influence, indices, k),
            n=n,
            dropped=dropped,
            warnings=tuple(filter(None, doubts)),
        )
    return estimates, scales
