"""Contenders: the ways to embed among which a choice is made, with and without re-routing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.spec import REFERENCE, MethodSpec
from kvlens.layers.route import Route
from kvlens.layers.rules import DEPTH_RULES, PROFILE_RULES
from kvlens.layers.selection import select
from kvlens.methods.registry import self_contained
from kvlens.models.info import ModelInfo
from kvlens.store.layer_ranges import short
from kvlens.studies.windows import windows
from kvlens.texts.prompts import PROMPTS, query_for

DOCUMENTS = ("kv-document", "kv-document-inner", "kv-document-quoted")
"""The prompts that are tried: which one is best differs from model to model."""
POOLINGS = ("hybrid", "last", "mean")
PLAIN = "no re-routing"
METHOD = "another method"
WINDOW = "window"
GIVEN = "given"


class Way(NamedTuple):
    """The method itself: its prompt, what it re-routes, its pooling.

    Attributes:
        document: the prompt's name.
        route: of one bias; None: nothing is re-routed.
        pooling: one of `POOLINGS`.
    """

    document: str
    route: Route | None
    pooling: str


@dataclass(frozen=True)
class Contender:
    """A way to embed.

    Attributes:
        origins: why it is tried: ``no re-routing``, ``another method``, ``window``, ``given``, or
            the name of a rule.
        spec: the method and its settings.
        layers: that are re-routed.
        way: the same, where it is the method itself without further settings.
    """

    origins: tuple[str, ...]
    spec: MethodSpec
    layers: tuple[int, ...] = ()
    way: Way | None = None

    @classmethod
    def of_way(cls, way: Way, origin: str) -> Contender:
        """The method itself.

        Args:
            way: how.
            origin: why it is tried.
        """
        layers = way.route.layers if way.route else ()
        return cls((origin,), MethodSpec.parse(_text(way)), layers, way)

    @classmethod
    def given(cls, spec: MethodSpec) -> Contender:
        """What the user names; its layers as far as it names them.

        Args:
            spec: any method with any settings.
        """
        named = next((each.value for each in spec.settings if each.name == "layers"), ())
        return cls((GIVEN,), spec, tuple(named))

    def also(self, origin: str) -> Contender:
        """The same, tried for one more reason."""
        if origin in self.origins:
            return self
        return replace(self, origins=(*self.origins, origin))


def plain_contenders() -> Iterator[Contender]:
    """Every prompt and pooling of the method without re-routing, and every other method."""
    for document in DOCUMENTS:
        for pooling in POOLINGS:
            yield Contender.of_way(Way(document, None, pooling), PLAIN)
    for name in self_contained():
        if name != REFERENCE:
            yield Contender((METHOD,), MethodSpec.parse(name))


def window_routes(
    model: ModelInfo, widths: Sequence[int], biases: Sequence[float]
) -> Iterator[Route]:
    """Windows at every depth, with each bias, seen by all tokens and by all but position 0.

    Args:
        model: what is re-routed.
        widths: how many layers a window has.
        biases: of the re-routed column.
    """
    for layers in windows(model.layers_to_reroute(), widths):
        for bias in biases:
            for queries in ("all", "shielded"):
                yield Route.of(model, layers, bias, queries=queries)


def rule_routes(profile: IDProfile) -> Iterator[tuple[str, Route]]:
    """What each rule chooses, with the bias of the paper and nothing shielded.

    Args:
        profile: that they look at.
    """
    for rule in (*PROFILE_RULES, *DEPTH_RULES):
        yield rule, Route.of(profile.model, select(profile, rule).layers)


def distinct_routes(contenders: Iterable[Contender]) -> list[Route]:
    """What the method itself re-routes in them, each once, in order of appearance.

    Args:
        contenders: any.
    """
    routes: list[Route] = []
    for contender in contenders:
        route = contender.way.route if contender.way else None
        if route is not None and route not in routes:
            routes.append(route)
    return routes


def merged(contenders: Iterable[Contender]) -> list[Contender]:
    """Each way to embed once, with all its origins, in order of appearance."""
    by_text: dict[str, Contender] = {}
    for contender in contenders:
        known = by_text.setdefault(contender.spec.text, contender)
        for origin in contender.origins:
            known = known.also(origin)
        by_text[contender.spec.text] = known
    return list(by_text.values())


def _text(way: Way) -> str:
    """As `MethodSpec.parse` reads it."""
    query = query_for(PROMPTS[way.document]).name
    prompts = f"query={query}:document={way.document}"
    start = f"{REFERENCE}:layers={_layers(way.route)}:{prompts}:pooling={way.pooling}"
    if way.route is None:
        return start
    seen_by = way.route.control.queries
    control = "" if seen_by == "all" else f":queries={seen_by}"
    return f"{start}:bias={way.route.bias[0]:g}{control}"


def _layers(route: Route | None) -> str:
    """As a list of methods, with commas between, can hold them."""
    return short(route.layers).replace(",", "+") if route else "none"
