"""Contenders: the ways to embed among which a choice is made, with and without re-routing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Contender:
    """A way to embed.

    Attributes:
        origins: why it is tried: ``no re-routing``, ``another method``, ``window``, ``given``, or
            the name of a rule.
        spec: the method and its settings.
        route: what is re-routed; None: nothing.
        pooling: of a route; else not looked at.
    """

    origins: tuple[str, ...]
    spec: MethodSpec
    route: Route | None = None
    pooling: str = ""

    def also(self, origin: str) -> Contender:
        """The same, tried for one more reason."""
        if origin in self.origins:
            return self
        return replace(self, origins=(*self.origins, origin))


def plain_contenders() -> Iterator[Contender]:
    """Every prompt and pooling of the method without re-routing, and every other method."""
    for document in DOCUMENTS:
        for pooling in POOLINGS:
            yield Contender((PLAIN,), MethodSpec.parse(_text("none", document, pooling)))
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


def routed(route: Route, document: str, pooling: str, origin: str = WINDOW) -> Contender:
    """The contender of a route of one bias."""
    bias = route.bias[0]
    control = "" if route.control.queries == "all" else f":queries={route.control.queries}"
    text = f"{_text(_layers(route.layers), document, pooling)}:bias={bias:g}{control}"
    return Contender((origin,), MethodSpec.parse(text), route, pooling)


def rule_routes(profile: IDProfile) -> Iterator[tuple[str, Route]]:
    """What each rule chooses, with the bias of the paper and nothing shielded.

    Args:
        profile: that they look at.
    """
    for rule in (*PROFILE_RULES, *DEPTH_RULES):
        yield rule, Route.of(profile.model, select(profile, rule).layers)


def merged(contenders: Iterable[Contender]) -> list[Contender]:
    """Each way to embed once, with all its origins, in order of appearance."""
    by_text: dict[str, Contender] = {}
    for contender in contenders:
        known = by_text.setdefault(contender.spec.text, contender)
        for origin in contender.origins:
            known = known.also(origin)
        by_text[contender.spec.text] = known
    return list(by_text.values())


def _text(layers: str, document: str, pooling: str) -> str:
    query = query_for(PROMPTS[document]).name
    return f"{REFERENCE}:layers={layers}:query={query}:document={document}:pooling={pooling}"


def _layers(layers: Sequence[int]) -> str:
    """As a list of methods, with commas between, can hold them."""
    return short(layers).replace(",", "+")
