"""Intrinsic dimension (ID) per layer, by scikit-dimension, with standard errors and the reasons to doubt it.

1. drop copies of points, then find every point's nearest neighbours, once, exactly; 2. feed those distances to TwoNN
and MLE, and to GRIDE at growing scales; 3. take the standard errors from the neighbour graph; 4. say what speaks
against a value: too few points for it, no plateau over scales, many copies, points that are not independent.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from kvlens.files import InputError, versions
from kvlens.models import ModelInfo
from kvlens.prompts import Prompt
from kvlens.records import FileRecord, Record, facts_html, facts_text, phrase
from kvlens.texts import TextsInfo

if TYPE_CHECKING:
    from kvlens.trace import Trace

MIN_POINTS = 50  # distinct points; below, the estimators and their errors are noise
NEIGHBOURS = 64  # the widest scale of GRIDE
MLE_NEIGHBOURS = 20

# Two points nearer than this share of the distance to their 10th real neighbour are one point. Measured on the
# final-token states of SmolLM2-135M: batch noise stays below 6e-5 of it, different texts lie above 0.1.
NEAR, NEAR_RANK = 1e-3, 10
# Nor can float32 arithmetic tell apart points nearer than this many rounding steps of their length.
ROUNDING_STEPS = 4

# The reading at which the mean estimate on a uniform ball is 20 % below the ball's dimension, by number of points.
# Measured by simulation: at each n, balls of 7 to 9 different dimensions around the crossing, 1,500 seeded sets of
# points each (n = 50) down to 3 (n = 10,000) and 1 (n = 30,000); crossing interpolated, good to about 4 %.
BALL_POINTS = (50, 100, 300, 1000, 3000, 10000, 30000)
BALL_LIMITS = {
    "twonn": (9.8, 10.7, 13.0, 16.0, 17.7, 21.9, 23.5),
    "mle": (2.8, 4.3, 6.8, 9.7, 12.4, 15.5, 18.3),
}


class NoEstimate(InputError):
    """These points have no estimate: too few are distinct, or their distances are degenerate."""


class IDEstimate(Record):
    """One layer's ID by one estimator; n: points used; dropped: copies of other points, not used.

    stderr covers the estimator's own mean at this n (how much the value would move with other points of the same
    kind), NOT the distance to the true dimension, from which the estimators are biased downwards as it grows.
    """

    layer: int = Field(ge=0)
    value: float = Field(gt=0)
    stderr: float = Field(ge=0)
    n: int
    dropped: int
    warnings: tuple[str, ...] = ()


class ScaleProfile(Record):
    """One layer's ID by GRIDE (Denti et al. 2022) at growing scales: each compares the distances of the neighbours
    of rank neighbours[i] / 2 and neighbours[i]. stderrs: as in `IDEstimate`."""

    layer: int = Field(ge=0)
    neighbours: tuple[int, ...]
    values: tuple[float, ...]
    stderrs: tuple[float, ...]


class IDProfile(FileRecord):
    """ID of every layer, by estimator ("twonn", "mle"), layers ascending, with what it was made from; one JSON file.

    skipped: layers without an estimate and why (the key and value of layer 0 are the same for every text that ends
    in the same token).
    """

    what: ClassVar[str] = "an ID profile"
    again: ClassVar[str] = "profile the model again"

    format: Literal["kvlens.id-profile"] = "kvlens.id-profile"
    version: Literal[1] = 1
    model: ModelInfo
    states: str
    points: str
    prompt: Prompt
    texts: TextsInfo
    estimates: dict[str, tuple[IDEstimate, ...]] = Field(min_length=1)
    scales: tuple[ScaleProfile, ...]
    skipped: dict[int, str] = Field(default_factory=dict)
    versions: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> IDProfile:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers have to ascend without repetition, not {list(self.layers)}")
        if any(tuple(e.layer for e in row) != self.layers for row in self.estimates.values()):
            raise ValueError("the estimators have to cover the same layers")
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(e.layer for e in next(iter(self.estimates.values())))

    def values(self, estimator: str) -> np.ndarray:
        """The ID by layer, float64 ``[n_layers]``."""
        return np.array([e.value for e in self.estimates[estimator]])

    def stderrs(self, estimator: str) -> np.ndarray:
        """Its standard errors, float64 ``[n_layers]``."""
        return np.array([e.stderr for e in self.estimates[estimator]])

    @property
    def warnings(self) -> list[str]:
        """The estimates' warnings, one line per kind, layers and estimators grouped."""
        groups: dict[tuple[tuple[int, str], ...], list[str]] = {}  # (layer, warning) of one kind -> estimators
        for name, row in self.estimates.items():
            said = [(e.layer, text) for e in row for text in e.warnings]
            for kind in dict.fromkeys(text.partition(":")[0] for _, text in said):
                hits = tuple(one for one in said if one[1].startswith(kind))
                groups.setdefault(hits, []).append(name)
        lines = []
        for hits, names in groups.items():
            example = f" (at layer {hits[0][0]})" if len({text for _, text in hits}) > 1 else ""
            lines.append(f"{', '.join(names)} at {phrase([at for at, _ in hits])}: {hits[0][1]}{example}")
        if self.skipped:
            lines.append(f"{phrase(list(self.skipped))} left out: {next(iter(self.skipped.values()))}")
        return lines

    def _facts(self) -> tuple[str, dict[str, str]]:
        facts = {
            "states": f"{self.states}, points {self.points}, prompt {self.prompt.name}",
            "texts": f"{self.texts.n}, {self.texts.source}",
            **{f"{name} ID": self._span(name) for name in self.estimates},
        }
        return f"ID profile: {self.model.name}, {phrase(self.layers)} of {self.model.n_layers}", facts

    def __str__(self) -> str:
        return facts_text(*self._facts(), self.warnings)

    def _repr_html_(self) -> str:
        from kvlens.plots import picture_html, plot_profile

        title, facts = self._facts()
        return facts_html(title, facts, self.warnings, picture_html(plot_profile(self), title))

    def _span(self, name: str) -> str:
        low, high = (f(self.estimates[name], key=lambda e: e.value) for f in (min, max))
        return " to ".join(f"{e.value:.1f} ± {e.stderr:.1f} (layer {e.layer})" for e in (low, high))


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
        raise InputError(f"no layer has an ID estimate: {next(iter(skipped.values()), 'no layer was recorded')}")
    recorded = ("torch", "transformers", "transformer-lens")
    return IDProfile(
        model=trace.model,
        states=states,
        points=trace.points if states == "hidden" else "last",
        prompt=trace.prompt,
        texts=trace.texts,
        estimates={name: tuple(row) for name, row in rows.items()},
        scales=tuple(scales),
        skipped=skipped,
        versions=trace.versions | {name: v for name, v in versions().items() if name not in recorded},
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
        raise InputError(f"unknown estimator {unknown[0]!r}: the known ones are {', '.join(_ESTIMATORS)}")
    if not estimators:
        raise InputError(f"no estimator given: the known ones are {', '.join(_ESTIMATORS)}")
    X = np.asarray(X)
    if X.ndim != 2 or not X.size:
        raise InputError(f"layer {layer}: points have to be an array [n, d], not of shape {list(X.shape)}")
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
            raise NoEstimate(f"layer {layer}: {name} came out as {value:g}: the neighbour distances are degenerate")
        doubts = [_too_small(name, value, n), _off_plateau(MLE_NEIGHBOURS if name == "mle" else 2, scales)]
        if dropped > 0.05 * len(X):
            doubts.append(f"duplicates: {dropped} of {len(X)} points are copies of others and were dropped")
        estimates[name] = IDEstimate(
            layer=layer,
            value=value,
            stderr=value**2 / n * _root_sandwich(influence, indices, k),
            n=n,
            dropped=dropped,
            warnings=tuple(filter(None, doubts)),
        )
    return estimates, scales


def _distinct_neighbours(X: np.ndarray, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of the points that are left when each connected group of copies keeps its first member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = len(X)
    step = np.finfo(np.float64 if X.dtype.kind != "f" or X.itemsize > 4 else np.float32).eps
    seen: dict[bytes, int] = {}
    for i, row in enumerate(X):
        seen.setdefault(hashlib.sha256(row.tobytes()).digest(), i)
    first = np.array(list(seen.values()))
    X = X.astype(np.float64)
    rounding = ROUNDING_STEPS * step * np.sqrt(np.einsum("nd,nd->n", X, X))
    X -= X.mean(axis=0)  # else a common offset makes the search imprecise, and `_neighbours` slow
    while len(first) >= MIN_POINTS:
        if len(first) < len(X):
            X, rounding = X[first], rounding[first]
        distances, indices = _neighbours(X, min(NEIGHBOURS, len(X) - 1))
        # Row by row the last gap: up to there neighbours are copies, however many there are.
        gap = distances[:, :-NEAR_RANK] <= NEAR * distances[:, NEAR_RANK:]
        radius = np.where(gap, distances[:, :-NEAR_RANK], 0.0).max(axis=1)
        point, rank = np.nonzero(distances <= np.maximum(radius, rounding)[:, None])
        if not len(point):
            return distances, indices
        copies = coo_array((np.ones(len(point)), (point, indices[point, rank])), shape=(len(X), len(X)))
        first = np.sort(np.unique(connected_components(copies, directed=False)[1], return_index=True)[1])
    raise NoEstimate(
        f"layer {layer}: {len(first)} of {total} points are distinct, at least {MIN_POINTS} are needed: "
        "give more, and different, texts"
    )


def _neighbours(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices ``[n, k]`` of each point's nearest others, nearest first, exact in float64.

    The search (|x|^2 + |y|^2 - 2xy) errs where some points lie far from the origin. So the distances of its
    candidates are taken again from differences, and rows whose last candidate is not safely beyond the k-th are
    compared with all points. Ties go by index, so that neither threads nor block sizes change the result.
    """
    from scipy.spatial.distance import cdist
    from sklearn.neighbors import NearestNeighbors

    n, wide = len(X), min(k + 8, len(X) - 1)
    rough, candidates = NearestNeighbors(n_neighbors=wide, algorithm="brute").fit(X).kneighbors()
    squares = np.einsum("nd,nd->n", X, X)
    error = 4 * X.shape[1] * np.finfo(np.float64).eps * (squares + squares.max())
    distances, indices = np.empty((n, k)), np.empty((n, k), dtype=np.int64)
    for i, others in enumerate(candidates):
        row = cdist(X[i : i + 1], X[others])[0]
        order = np.lexsort((others, row))[:k]
        if wide < n - 1 and rough[i, -1] ** 2 - row[order[-1]] ** 2 <= error[i]:
            others, row = np.arange(n), cdist(X[i : i + 1], X)[0]
            row[i] = np.inf
            order = np.lexsort((others, row))[:k]
        distances[i], indices[i] = row[order], others[order]
    return distances, indices


def _twonn(distances: np.ndarray, indices: np.ndarray) -> tuple[float, np.ndarray, int]:
    """Value, influence of each point, rank of the neighbours that it shares data with."""
    from skdim.id import TwoNN

    value = TwoNN(dist=True).fit(distances[:, :2]).dimension_
    return float(value), np.log(distances[:, 1] / distances[:, 0]), 1


def _mle(distances: np.ndarray, indices: np.ndarray) -> tuple[float, np.ndarray, int]:
    from skdim.id import MLE

    k = MLE_NEIGHBOURS
    knn = (distances[:, :k], indices[:, :k])
    with np.errstate(divide="ignore"):
        fit = MLE().fit(knn[0], n_neighbors=k, comb="mle", precomputed_knn_arrays=knn)
    return float(fit.dimension_), 1 / fit.dimension_pw_, k


_ESTIMATORS = {"twonn": _twonn, "mle": _mle}


def _root_sandwich(influence: np.ndarray, indices: np.ndarray, k: int) -> float:
    """Standard deviation of the sum of influences when points within k neighbours of each other are correlated.

    sqrt(psi' P psi / (1 - rows)), psi = influence less its mean, P = the symmetrised k-neighbour adjacency + I;
    1 - mean row sum of P / n makes up for the subtracted mean. Never below the value for independent points.
    Coverage of 95 % intervals for the estimator's mean, on balls and spheres of 2 to 20 dimensions, n = 50 to 1,000:
    twonn 88-96 % (91-96 % from n = 300), mle 90-99 %.
    """
    from scipy.sparse import csr_array

    n, psi = len(influence), influence - influence.mean()
    starts = np.arange(n + 1) * k
    graph = csr_array((np.ones(n * k), indices[:, :k].ravel(), starts), shape=(n, n))
    graph = graph.maximum(graph.T)
    rows = 1 + graph.sum() / n
    return float(np.sqrt(psi @ psi + max(psi @ (graph @ psi), 0.0)) / np.sqrt(1 - min(rows / n, 0.9)))


def _scales(distances: np.ndarray, indices: np.ndarray, layer: int) -> ScaleProfile:
    """GRIDE with ranks n and 2n, n = 1, 2, 4, ..., up to 64 neighbours or a fifth of the points."""
    from skdim.id._GRIDE import _gride  # its public class would search the neighbours again, unrefined

    ranks = [2**i for i in range(1, 7) if 2**i <= min(distances.shape[1], len(distances) // 5)]
    values, stderrs = [], []
    for near, far in zip([1, *ranks], ranks, strict=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it drops tied distances, and says so
            try:
                value, fisher = _gride(distances, near, far)
            except (ValueError, IndexError) as error:
                raise NoEstimate(f"layer {layer}: GRIDE finds only tied distances at {far} neighbours") from error
        log_mu = np.log(distances[:, far - 1] / distances[:, near - 1])
        log_mu = np.maximum(log_mu, 1e-12)  # a tie's score is 0 / 0; this is near its limit
        score = 1 / value - (far - 1) * log_mu + (far - near - 1) * log_mu / -np.expm1(-value * log_mu)
        values.append(float(value))
        stderrs.append(float(fisher**2 * _root_sandwich(score, indices, far)))
    return ScaleProfile(layer=layer, neighbours=tuple(ranks), values=tuple(values), stderrs=tuple(stderrs))


def _too_small(estimator: str, value: float, n: int) -> str | None:
    """A warning when a uniform ball that reads `value` with n points reads more than 20 % low (`BALL_LIMITS`)."""
    limit = np.interp(np.log(n), np.log(BALL_POINTS), BALL_LIMITS[estimator])
    return f"n too small: values above {limit:.1f} from {n} points are over 20 % too low" if value > limit else None


def _off_plateau(own: int, scales: ScaleProfile) -> str | None:
    """A warning when no three neighbouring scales agree, or when the estimator's own scale (`own` neighbours) is not
    among such. Two scales differ when by over 10 % and by over three standard errors (false alarms on
    balls, spheres and swiss rolls: at most 5 %)."""
    value, error, ranks = np.array(scales.values), np.array(scales.stderrs), scales.neighbours
    step = np.abs(np.diff(value))
    bounds = [0, *(1 + np.flatnonzero((step > 0.1 * value[:-1]) & (step > 3 * np.hypot(error[1:], error[:-1]))))]
    runs = [range(a, b) for a, b in zip(bounds, [*bounds[1:], len(ranks)], strict=True) if b - a >= 3]
    if not runs:
        ends = f"from {value[0]:.1f} ({ranks[0]} neighbours) to {value[-1]:.1f} ({ranks[-1]})"
        return f"no plateau over scales: GRIDE goes {ends}"
    at = max(i for i, rank in enumerate(ranks) if rank <= own)
    if any(at in run for run in runs):
        return None
    flat = max(runs, key=len)
    level, span = value[flat.start : flat.stop].mean(), f"{ranks[flat.start]} to {ranks[flat.stop - 1]}"
    return f"off the plateau: GRIDE reads {value[at]:.1f} at {ranks[at]} neighbours, {level:.1f} over {span}"
