"""Coarse look: every contender on a few items, and which of them become finalists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.spec import MethodSpec
from kvlens.embedding.together import groups_by_pass, raw_together
from kvlens.layers.route import Route
from kvlens.studies.contenders import (
    GIVEN,
    PLAIN,
    POOLINGS,
    Contender,
    merged,
    plain_contenders,
    routed,
    rule_routes,
)
from kvlens.studies.court import Court
from kvlens.studies.decision import RandomWindow
from kvlens.studies.sweep_vectors import pooled_route_vectors
from kvlens.studies.trials import Trial
from kvlens.texts.prompts import PROMPTS

BEST_WINDOW = "best window"
PLAIN_FINALISTS = 4

Scored = tuple[Contender, float]
"""A contender with its score."""


def coarse(
    court: Court, trial: Trial, routes: Sequence[Route]
) -> tuple[list[Scored], list[Scored]]:
    """Everything on the first part: without re-routing, and every window."""
    plain = list(_judged_plain(court, trial))
    document = document_of(best_plain(plain))
    with court.bars(f"looking at {len(routes)} routes") as progress:
        vectors = pooled_route_vectors(
            court.lm, trial.texts, routes, PROMPTS[document], POOLINGS, court.limits, progress
        )
    windows = []
    for (row, route), (column, pooling) in product(enumerate(routes, 1), enumerate(POOLINGS)):
        score = _score(trial, vectors[row, column].numpy())
        windows.append((routed(route, document, pooling), score))
    return plain, windows


def _judged_plain(court: Court, trial: Trial) -> Iterator[Scored]:
    """Those that share a pass beside each other."""
    contender_of: dict[Encoder, Contender] = {}
    for contender in plain_contenders():
        encoder = court.encoder(contender)
        if encoder is not None:
            contender_of[encoder] = contender
    for group in groups_by_pass(list(contender_of), "document"):
        with court.bars(contender_of[group[0]].spec.method_label) as progress:
            raw = raw_together(group, trial.texts, "document", progress)
        for encoder, vectors in zip(group, raw, strict=True):
            yield contender_of[encoder], _score(trial, vectors)


def _score(trial: Trial, vectors: Float[np.ndarray, "n d"]) -> float:
    return float(trial.whole(trial.items(vectors)[None])[0])


def best_plain(plain: Iterable[Scored]) -> MethodSpec:
    """The prompt and pooling that are best without re-routing."""
    return max(_own(plain), key=lambda scored: scored[1])[0].spec


def _own(plain: Iterable[Scored]) -> list[Scored]:
    """The method itself, without re-routing."""
    return [scored for scored in plain if PLAIN in scored[0].origins]


def document_of(spec: MethodSpec) -> str:
    """The document prompt that a specification names."""
    return next(setting.text for setting in spec.settings if setting.name == "document")


def _pooling_of(spec: MethodSpec) -> str:
    return next(setting.text for setting in spec.settings if setting.name == "pooling")


def choose_finalists(
    plain: Sequence[Scored],
    windows: Sequence[Scored],
    profile: IDProfile | None,
    given: Sequence[MethodSpec],
    n: int,
) -> list[Contender]:
    """The best without re-routing, what rules choose, what was given, then the best windows."""
    ranked = sorted(plain, key=lambda scored: -scored[1])
    chosen = [contender for contender, _ in ranked[:PLAIN_FINALISTS]]
    best = best_plain(plain)
    chosen += [contender for contender, _ in plain if contender.spec == best]
    chosen += [Contender((GIVEN,), spec, _route_of(spec)) for spec in given]
    if profile is not None:
        document = document_of(best)
        chosen += [routed(route, document, "hybrid", rule) for rule, route in rule_routes(profile)]
    by_score = sorted(windows, key=lambda scored: -scored[1])
    chosen.append(by_score[0][0].also(BEST_WINDOW))
    seen = {_depth_of(chosen[-1])}
    for contender, _ in by_score[1:]:
        if len(merged(chosen)) >= n:
            break
        if _depth_of(contender) not in seen:  # late ones differ little by bias and shield
            chosen.append(contender)
            seen.add(_depth_of(contender))
    return merged(chosen)


def _depth_of(contender: Contender) -> tuple[tuple[int, ...], str]:
    return (contender.route.layers if contender.route else ()), contender.pooling


def _route_of(spec: MethodSpec) -> Route | None:
    """A mark that a given way re-routes; what it re-routes, its encoder knows."""
    layers = next((each.value for each in spec.settings if each.name == "layers"), ())
    return Route(layers, (1.0,) * len(layers)) if layers else None


def scores_of(plain: Sequence[Scored], windows: Sequence[Scored]) -> Iterator[tuple[str, float]]:
    """The coarse score of each way to embed, by its text."""
    for contender, score in (*plain, *windows):
        yield contender.spec.text, score


def random_windows(plain: Sequence[Scored], windows: Sequence[Scored]) -> Iterator[RandomWindow]:
    """By width, bias, shield and pooling: what a window drawn at random gets."""
    document = document_of(best_plain(plain))
    without = {
        _pooling_of(contender.spec): score
        for contender, score in _own(plain)
        if document_of(contender.spec) == document
    }
    groups: dict[tuple[int, float, str, str], list[float]] = {}
    for contender, score in windows:
        route = contender.route
        if route is not None:
            kind = (len(route.layers), route.bias[0], route.control.queries, contender.pooling)
            groups.setdefault(kind, []).append(score)
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
