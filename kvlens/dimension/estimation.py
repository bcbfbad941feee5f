"""Estimation: from recorded states to an ID profile.

1. Drop copies of points, then find every point's nearest neighbours, once, exactly (`neighbours`).
2. Feed those distances to TwoNN and MLE, and to GRIDE at growing scales (`estimators`), and the
   points to other estimators (`named`).
3. Take the standard errors from the neighbour graph, those of `named` from halves of the points.
4. Say what speaks against a value (`doubts`): too few points for it, no plateau over scales, many
   copies, points that are not independent.
5. Feed the distances inside random halves of the texts to the same estimators (`halves`).
6. And those inside two halves, four quarters and so on: how the ID falls with n (`decimation`).
7. Find the block that writes position 0's massive activation (`sink`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kvlens.dimension.cloud import Rows, finite_rows
from kvlens.dimension.copies import Distinct, distinct_points
from kvlens.dimension.decimation import Decimation
from kvlens.dimension.doubts import NOT_INDEPENDENT, many_copies, off_plateau, too_small
from kvlens.dimension.draws import MOST_DRAWS
from kvlens.dimension.estimators import ESTIMATORS, gride_scales
from kvlens.dimension.halves import DRAWS, Halves
from kvlens.dimension.named import canonical, named
from kvlens.dimension.profile import IDEstimate, IDProfile, NoEstimate, ScaleProfile
from kvlens.dimension.search import Search, in_float32
from kvlens.dimension.sink import Sink, sink_of
from kvlens.store.bounds import MOST
from kvlens.store.checking import a, arguments, function, names, optional, text, whole
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions

if TYPE_CHECKING:
    from kvlens.tracing.trace import Trace

DEFAULT = ("twonn", "mle")
CPU = "cpu"


def _a_trace(name: str, value: Any) -> Any:
    from kvlens.tracing.trace import Trace  # here, since points need no torch

    return a(Trace, "a trace of `kvlens.record`")(name, value)


def _a_device(name: str, value: Any) -> Any:
    if value == CPU:
        return CPU
    from kvlens.dimension.device_search import a_device

    return a_device(name, value)


@arguments(
    trace=_a_trace,
    states=text,
    estimators=names,
    progress=optional(function),
    draws=whole(least=0, most=MOST_DRAWS),
    seed=whole(least=0, most=MOST),
    device=_a_device,
)
def estimate(
    trace: Trace,
    states: str = "hidden",
    estimators: Sequence[str] = DEFAULT,
    progress: Progress | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    device: str = CPU,
) -> IDProfile:
    """Estimate the ID of every recorded layer that has the states; see `estimate_points`.

    Args:
        trace: what was recorded.
        states: hidden, k, k_pre, v, kv (k beside v), or another kind that the trace holds.
        estimators: as of `estimate_points`; those that look at the points themselves take their
            time, in each random half anew.
        progress: called with (layers done, layers).
        draws: how many random halves of the texts are measured too, for the stability of choices;
            no text is recorded again.
        seed: of the halves, and of the parts of the decimation.
        device: where neighbours are searched; it changes no value.

    Returns:
        The profile. A layer that has such states but no estimate is left out and named in
        `IDProfile.skipped`. It has no sink where the trace lacks a layer, and no draws where the
        halves have too few points.

    Raises:
        InputError: as `estimate_points`, and when no layer has an estimate.
    """
    progress = progress or silent
    estimators = canonical(estimators)
    halves = Halves(trace.texts.n, draws, seed)
    decimation = Decimation(trace.texts.n, seed)
    estimated: list[tuple[dict[str, IDEstimate], ScaleProfile]] = []
    skipped: dict[int, str] = {}
    layers = trace.layers_of(states)
    points = _points_of(trace, states)
    text_of = trace.text_of(states)
    for done, layer in enumerate(layers, 1):
        try:
            X = trace.states(layer, states)
            distinct, estimates, scales = _estimated(X, estimators, layer, device)
            for parts in (halves, decimation):
                parts.measure(distinct, text_of, estimators)
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
        decimation=decimation.draws(),
    )


def _points_of(trace: Trace, states: str) -> str:
    """Which tokens' states these are: but for hidden ones the final token's, or ``k@first``'s."""
    return trace.points if states == "hidden" else states.partition("@")[2] or "last"


def _sink(trace: Trace) -> Sink | None:
    ratios = trace.tensors.get("position_zero")
    return None if ratios is None else sink_of(ratios.numpy())


@arguments(estimators=names, layer=whole(least=0), device=_a_device)
def estimate_points(
    X: ArrayLike | Rows,
    estimators: Sequence[str] = DEFAULT,
    layer: int = 0,
    device: str = CPU,
) -> tuple[dict[str, IDEstimate], ScaleProfile]:
    """Estimate the ID of points.

    Exact and near copies of points are dropped first. Deterministic; beside the points, memory is
    that of 64 neighbours of each and of a few blocks of 1,024 points, never n x n.

    Args:
        X: the points, ``[n, d]``, of any real dtype; distances are float64 inside. A memory map, or
            whatever has ``shape``, ``dtype`` and rows by slices and arrays of ascending numbers, is
            read a block at a time.
        estimators: ``twonn`` (Facco et al. 2017, the linear fit without the tenth of largest
            ratios), ``mle`` (Levina and Bickel 2005 over 20 neighbours, inverse estimates averaged
            after MacKay and Ghahramani); or any other class of ``skdim.id`` by its name, such as
            ``lpca``. All are scikit-dimension's.
        layer: the points are said to be those of this layer.
        device: where neighbours are searched, ``cpu`` or ``cuda``; it changes no value.

    Returns:
        Estimator -> estimate, and the ID by GRIDE at growing scales.

    Raises:
        InputError: for an unknown estimator, for what is no array ``[n, d]``, and for NaN or
            infinity.
        NoEstimate: (an `InputError`) for fewer than 50 distinct points, and for distances so
            degenerate that an estimate is 0, NaN or infinite.
    """
    _, estimates, scales = _estimated(X, canonical(estimators), layer, device)
    return estimates, scales


def _estimated(
    X: ArrayLike | Rows, estimators: Sequence[str], layer: int, device: str
) -> tuple[Distinct, dict[str, IDEstimate], ScaleProfile]:
    """The points without copies, and what `estimate_points` gives."""
    points = finite_rows(X, layer)
    distinct = distinct_points(points, layer, _search_on(device))
    neighbours = distinct.neighbours
    scales = gride_scales(neighbours, layer)
    dropped = len(points) - neighbours.n
    estimates = {name: _estimate(name, distinct, scales, dropped) for name in estimators}
    return distinct, estimates, scales


def _search_on(device: str) -> Search:
    if device == CPU:
        return in_float32
    from kvlens.dimension.device_search import search_on

    return search_on(device)


def _estimate(name: str, distinct: Distinct, scales: ScaleProfile, dropped: int) -> IDEstimate:
    """One estimator's value of the points, with its error and the doubts about it."""
    try:
        read = _read if name in ESTIMATORS else _read_points
        value, stderr = read(name, distinct)
    except NoEstimate as error:
        raise NoEstimate(f"layer {scales.layer}: {error}") from error
    n = distinct.neighbours.n
    reach = ESTIMATORS[name].reach if name in ESTIMATORS else None
    doubts = (
        too_small(name, value, n),
        reach and off_plateau(reach, scales),
        many_copies(dropped, n + dropped),
    )
    return IDEstimate(
        layer=scales.layer,
        value=value,
        stderr=stderr,
        n=n,
        dropped=dropped,
        warnings=tuple(doubt for doubt in doubts if doubt),
    )


def _read(name: str, distinct: Distinct) -> tuple[float, float]:
    """ID and standard error from the neighbours."""
    reading = ESTIMATORS[name].read(distinct.neighbours)
    value = reading.value
    if not (np.isfinite(value) and value > 0):
        raise NoEstimate(f"{name} came out as {value:g}: the neighbour distances are degenerate")
    return value, reading.stderr(distinct.neighbours)


def _read_points(name: str, distinct: Distinct) -> tuple[float, float]:
    """ID and standard error from the points, all of them in memory."""
    points = distinct.cloud.exact(slice(None))
    return named(name).value(points), named(name).stderr(points)


def _not_independent(estimates: dict[str, IDEstimate]) -> dict[str, IDEstimate]:
    """The estimates, with the warning that their points are no independent draws."""
    return {
        name: each.model_copy(update={"warnings": (*each.warnings, NOT_INDEPENDENT)})
        for name, each in estimates.items()
    }
