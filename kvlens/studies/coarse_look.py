"""Coarse look: every contender on a few items, and which of them become finalists.

The windows are looked at in two rounds (successive halving, Jamieson and Talwalkar 2016,
arXiv:1502.07943): all of them on a quarter of the items, and the best quarter on all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.spec import MethodSpec
from kvlens.layers.route import Route
from kvlens.studies.contenders import (
    PLAIN,
    POOLINGS,
    WINDOW,
    Contender,
    Way,
    distinct_routes,
    merged,
    plain_contenders,
    rule_routes,
)
from kvlens.studies.court import Court, Vectors
from kvlens.studies.decision import RandomWindow
from kvlens.studies.trials import Trial

BEST_WINDOW = "best window"
PLAIN_FINALISTS = 4
KEPT = 4  # one window in so many is looked at again, after a look at one item in so many
LEAST = 20  # items of the first look

Scored = tuple[Contender, float]
"""A contender with its score."""


@dataclass(frozen=True)
class CoarseLook:
    """What the first part of the items says.

    Attributes:
        plain: everything without re-routing.
        windows: those that were looked at on all items.
        random: what a window drawn at random gets.
        n_tried: ways to embed that were looked at.
    """

    plain: tuple[Scored, ...]
    windows: tuple[Scored, ...]
    random: tuple[RandomWindow, ...]
    n_tried: int

    @property
    def best_way(self) -> Way:
        """The prompt and pooling that are best without re-routing."""
        return best_way(self.plain)

    def scores(self) -> dict[str, float]:
        """The score of each way to embed, by its text."""
        return {contender.spec.text: score for contender, score in (*self.plain, *self.windows)}


def coarse(court: Court, trial: Trial, routes: Sequence[Route]) -> CoarseLook:
    """Everything on the first part: without re-routing, and every window."""
    plain = _judged(court, trial, list(plain_contenders()))
    document = best_way(plain).document
    first = trial.some(max(LEAST, trial.n // KEPT))
    seen = _judged(court, first, list(_ways(document, [None, *routes])))
    kept = _best_routes(seen, -(-len(routes) // KEPT))
    windows = _judged(court, trial, list(_ways(document, kept)))
    return CoarseLook(
        plain=tuple(plain),
        windows=tuple(windows),
        random=tuple(_random_windows(seen)),
        n_tried=len(plain) + len(routes) * len(POOLINGS),
    )


def _judged(court: Court, trial: Trial, contenders: Sequence[Contender]) -> list[Scored]:
    return [
        (contender, _score(trial, vectors))
        for contender, vectors in court.embedded(contenders, trial.texts)
    ]


def _score(trial: Trial, vectors: Vectors) -> float:
    return float(trial.whole(trial.items(vectors)[None])[0])


def _ways(document: str, routes: Iterable[Route | None]) -> Iterator[Contender]:
    """Each route with each pooling."""
    for route, pooling in product(routes, POOLINGS):
        origin = PLAIN if route is None else WINDOW
        yield Contender.of_way(Way(document, route, pooling), origin)


def _best_routes(seen: Sequence[Scored], n: int) -> list[Route]:
    """The routes that are best with the pooling that suits each."""
    return distinct_routes(contender for contender, _ in _ranked(seen))[:n]


def _ranked(scored: Iterable[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda each: -each[1])


def best_way(plain: Iterable[Scored]) -> Way:
    """The prompt and pooling that are best without re-routing."""
    ways = (contender.way for contender, _ in _ranked(plain))
    return next(way for way in ways if way is not None)


def choose_finalists(
    look: CoarseLook, profile: IDProfile | None, given: Sequence[MethodSpec], n: int
) -> list[Contender]:
    """The best without re-routing, what rules choose, what was given, then the best windows."""
    chosen = [contender for contender, _ in _ranked(look.plain)[:PLAIN_FINALISTS]]
    chosen.append(Contender.of_way(look.best_way, PLAIN))
    chosen += [Contender.given(spec) for spec in given]
    if profile is not None:
        document = look.best_way.document
        for rule, route in rule_routes(profile):
            chosen.append(Contender.of_way(Way(document, route, "hybrid"), rule))
    (best, _), *others = _ranked(look.windows)
    chosen.append(best.also(BEST_WINDOW))
    seen = {_depth_of(best)}
    for contender, _ in others:
        if len(merged(chosen)) >= n:
            break
        if _depth_of(contender) not in seen:  # late ones differ little by bias and shield
            chosen.append(contender)
            seen.add(_depth_of(contender))
    return merged(chosen)


def _depth_of(contender: Contender) -> tuple[tuple[int, ...], str]:
    return contender.layers, contender.way.pooling if contender.way else ""


def _random_windows(seen: Sequence[Scored]) -> Iterator[RandomWindow]:
    """By width, bias, shield and pooling: what a window drawn at random gets."""
    without: dict[str, float] = {}
    groups: dict[tuple[int, float, str, str], list[float]] = {}
    for contender, score in seen:
        way = contender.way
        if way is None:
            continue
        if way.route is None:
            without[way.pooling] = score
        else:
            kind = (len(way.route.layers), way.route.bias[0], way.route.control.queries)
            groups.setdefault((*kind, way.pooling), []).append(score)
    for (width, bias, queries, pooling), scores in groups.items():
        yield RandomWindow(
            width=width,
            bias=bias,
            queries=queries,
            pooling=pooling,
            n=len(scores),
            mean=float(np.mean(scores)),
            spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
            best=max(scores),
            plain=without[pooling],
        )
