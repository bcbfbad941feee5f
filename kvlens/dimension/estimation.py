"""Estimation: from recorded states to an ID profile.

1. Drop copies of points, then find every point's nearest neighbours, once, exactly (`neighbours`).
2. Feed those distances to TwoNN and MLE, and to GRIDE at growing scales (`estimators`).
3. Take the standard errors from the neighbour graph.
4. Say what speaks against a value (`doubts`): too few points for it, no plateau over scales, many
   copies, points that are not independent.
5. Feed the distances inside random halves of the texts to the same estimators (`halves`).
6. Find the block that writes position 0's massive activation (`sink`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kvlens.dimension.doubts import NOT_INDEPENDENT, many_copies, off_plateau, too_small
from kvlens.dimension.draws import MOST_DRAWS
from kvlens.dimension.estimators import ESTIMATORS, gride_scales
from kvlens.dimension.halves import DRAWS, Halves
from kvlens.dimension.neighbours import Distinct, Neighbours, distinct_points
from kvlens.dimension.profile import IDEstimate, IDProfile, NoEstimate, ScaleProfile
from kvlens.dimension.sink import Sink, sink_of
from kvlens.store.bounds import MOST
from kvlens.store.checking import a, arguments, function, names, optional, text, whole
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions

if TYPE_CHECKING:
    from kvlens.tracing.trace import Trace

DEFAULT = ("twonn", "mle")


def _a_trace(name: str, value: Any) -> Any:
    from kvlens.tracing.trace import Trace  # here, since points need no torch

    return a(Trace, "a trace of `kvlens.record`")(name, value)


@arguments(
    trace=_a_trace,
    states=text,
    estimators=names,
    progress=optional(function),
    draws=whole(least=0, most=MOST_DRAWS),
    seed=whole(least=0, most=MOST),
)
def estimate(
    trace: Trace,
    states: str = "hidden",
    estimators: Sequence[str] = DEFAULT,
    progress: Progress | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> IDProfile:
    """Estimate the ID of every recorded layer that has the states; see `estimate_points`.

    Args:
        trace: what was recorded.
        states: hidden, k, k_pre, v, kv (k beside v), or another kind that the trace holds.
        estimators: ``twonn``, ``mle`` or both.
        progress: called with (layers done, layers).
        draws: how many random halves of the texts are measured too, for the stability of choices;
            no text is recorded again.
        seed: of the halves.

    Returns:
        The profile. A layer that has such states but no estimate is left out and named in
        `IDProfile.skipped`. It has no sink where the trace lacks a layer, and no draws where the
        halves have too few points.

    Raises:
        InputError: as `estimate_points`, and when no layer has an estimate.
    """
    progress = progress or silent
    halves = Halves(trace.texts.n, draws, seed)
    estimated: list[tuple[dict[str, IDEstimate], ScaleProfile]] = []
    skipped: dict[int, str] = {}
    layers = trace.layers_of(states)
    points = _points_of(trace, states)
    text_of = trace.text_of(states)
    for done, layer in enumerate(layers, 1):
        try:
            distinct, estimates, scales = _estimated(trace.states(layer, states), estimators, layer)
            halves.measure(distinct, text_of, estimators)
            estimated.append((estimates, scales))
        except NoEstimate as error:
            skipped[layer] = str(error).removeprefix(f"layer {layer}: ")
        progress(done, len(layers))
    if not estimated:
        reason = next(iter(skipped.values()), "no recorded layer has keys and values")
        raise InputError(f"no layer has an ID estimate: {reason}")
    rows = [estimates for estimates, _ in estimated]
    if points == "all" or len(set(text_of)) < len(text_of):
        rows = [_not_independent(row) for row in rows]
    return IDProfile(
        model=trace.model,
        states=states,
        points=points,
        prompt=trace.prompt,
        texts=trace.texts,
        estimates={name: tuple(row[name] for row in rows) for name in estimators},
        scales=tuple(scales for _, scales in estimated),
        skipped=skipped,
        versions=versions(trace.versions),
        sink=_sink(trace),
        draws=halves.draws(),
    )


def _points_of(trace: Trace, states: str) -> str:
    """Which tokens' states these are: but for hidden ones the final token's, or ``k@first``'s."""
    return trace.points if states == "hidden" else states.partition("@")[2] or "last"


def _sink(trace: Trace) -> Sink | None:
    ratios = trace.tensors.get("position_zero")
    return None if ratios is None else sink_of(ratios.numpy())


@arguments(estimators=names, layer=whole(least=0))
def estimate_points(
    X: ArrayLike, estimators: Sequence[str] = DEFAULT, layer: int = 0
) -> tuple[dict[str, IDEstimate], ScaleProfile]:
    """Estimate the ID of points.

    Exact and near copies of points are dropped first. Deterministic; memory is the points once or
    twice, never n x n.

    Args:
        X: the points, ``[n, d]``, of any real dtype; float64 inside.
        estimators: ``twonn`` (Facco et al. 2017, the linear fit without the tenth of largest
            ratios), ``mle`` (Levina and Bickel 2005 over 20 neighbours, inverse estimates averaged
            after MacKay and Ghahramani); both are scikit-dimension's.
        layer: the points are said to be those of this layer.

    Returns:
        Estimator -> estimate, and the ID by GRIDE at growing scales.

    Raises:
        InputError: for an unknown estimator, for what is no array ``[n, d]``, and for NaN or
            infinity.
        NoEstimate: (an `InputError`) for fewer than 50 distinct points, and for distances so
            degenerate that an estimate is 0, NaN or infinite.
    """
    _, estimates, scales = _estimated(X, estimators, layer)
    return estimates, scales


def _estimated(
    X: ArrayLike, estimators: Sequence[str], layer: int
) -> tuple[Distinct, dict[str, IDEstimate], ScaleProfile]:
    """The points without copies, and what `estimate_points` gives."""
    _check_names(estimators)
    points = _as_points(X, layer)
    distinct = distinct_points(points, layer)
    neighbours = distinct.neighbours
    scales = gride_scales(neighbours, layer)
    dropped = len(points) - neighbours.n
    estimates = {name: _estimate(name, neighbours, scales, dropped) for name in estimators}
    return distinct, estimates, scales


def _check_names(estimators: Sequence[str]) -> None:
    known = f"the known ones are {', '.join(ESTIMATORS)}"
    unknown = [name for name in estimators if name not in ESTIMATORS]
    if unknown:
        raise InputError(f"unknown estimator {unknown[0]!r}: {known}")
    if not estimators:
        raise InputError(f"no estimator given: {known}")


def _as_points(X: ArrayLike, layer: int) -> NDArray:
    """`X` as an array ``[n, d]`` of finite numbers, in its own dtype."""
    points = np.asarray(X)
    if points.dtype.kind not in "fiub":
        raise InputError(f"`X` of layer {layer} has to hold real numbers, not {points.dtype}")
    if points.ndim != 2 or not points.size:
        shape = list(points.shape)
        raise InputError(f"layer {layer}: points have to be an array [n, d], not of shape {shape}")
    bad = np.count_nonzero(~np.isfinite(points).all(axis=1))
    if bad:
        raise InputError(
            f"layer {layer}: NaN or infinity in {bad} of {len(points)} states: "
            'record again with `dtype="float32"`'
        )
    return points


def _estimate(name: str, neighbours: Neighbours, scales: ScaleProfile, dropped: int) -> IDEstimate:
    """One estimator's value of the points, with its error and the doubts about it."""
    estimator = ESTIMATORS[name]
    reading = estimator.read(neighbours)
    value = reading.value
    if not (np.isfinite(value) and value > 0):
        raise NoEstimate(
            f"layer {scales.layer}: {name} came out as {value:g}: "
            "the neighbour distances are degenerate"
        )
    doubts = (
        too_small(name, value, neighbours.n),
        off_plateau(estimator.reach, scales),
        many_copies(dropped, neighbours.n + dropped),
    )
    return IDEstimate(
        layer=scales.layer,
        value=value,
        stderr=reading.stderr(neighbours),
        n=neighbours.n,
        dropped=dropped,
        warnings=tuple(doubt for doubt in doubts if doubt),
    )


def _not_independent(estimates: dict[str, IDEstimate]) -> dict[str, IDEstimate]:
    """The estimates, with the warning that their points are no independent draws."""
    return {
        name: each.model_copy(update={"warnings": (*each.warnings, NOT_INDEPENDENT)})
        for name, each in estimates.items()
    }
