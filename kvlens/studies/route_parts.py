"""Route parts: what a route is made of, and the route without each part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kvlens.layers.control import Carried, Control, OfHeads
from kvlens.layers.route import Route
from kvlens.models.anatomy import Anatomy

Kind = Literal["route", "layer", "head", "queries", "value", "key", "content"]
"""All of it; one layer's prefix; one query head's; some tokens'; or the text's own value, key, or
both."""

WITHOUT_TOKENS = {"position 0": "shielded", "the text": "prompt", "the prompt": "text"}
"""Tokens -> the `queries` that leave them out."""


@dataclass(frozen=True)
class Part:
    """A part of a route, and the route without it.

    Attributes:
        kind: of the part.
        without: the route that is left.
        layer: whose prefix; None: that of all layers.
        head: whose prefix; None: that of all query heads.
        name: the tokens that do not see the prefix, or what stands for the value; else empty.
    """

    kind: Kind
    without: Route
    layer: int | None = None
    head: int | None = None
    name: str = ""


def parts_of(route: Route, anatomy: Anatomy) -> Iterator[Part]:
    """The route itself, and every part that it can be without.

    Args:
        route: with at least one layer.
        anatomy: of the model.

    Yields:
        The route (what is left is the plain model); each layer; each query head that sees the
            prefix of a layer; position 0, the text and the prompt, where all tokens see it; each
            layer's value by zeros, and by calibration texts where the route has these; with these,
            the key of all layers, and key and value, too.
    """
    yield Part("route", replace(route, layers=(), bias=()))
    yield from _layers(route)
    yield from _heads(route, anatomy)
    yield from _tokens(route)
    yield from _values(route)
    yield from _content(route)


def _layers(route: Route) -> Iterator[Part]:
    for layer in route.layers:
        left = [(each, bias) for each, bias in route.bias_of.items() if each != layer]
        layers = tuple(each for each, _ in left)
        yield Part(
            "layer",
            replace(route, layers=layers, bias=tuple(bias for _, bias in left)),
            layer=layer,
        )


def _heads(route: Route, anatomy: Anatomy) -> Iterator[Part]:
    for layer in route.layers:
        every = range(anatomy.layers[layer].n_heads)
        seeing = route.control.heads.get(layer, tuple(every))
        for head in seeing:
            others = tuple(each for each in seeing if each != head)
            heads = {**route.control.heads, layer: others}
            yield Part("head", _changed(route, heads=heads), layer=layer, head=head)


def _tokens(route: Route) -> Iterator[Part]:
    if route.control.queries != "all":
        return
    for name, queries in WITHOUT_TOKENS.items():
        yield Part("queries", _changed(route, queries=queries), name=name)


def _values(route: Route) -> Iterator[Part]:
    if route.control.value != "own":
        return
    names: tuple[Carried, ...] = ("zero",)
    if route.calibration is not None:
        names = ("zero", "mean", "other")
    for name in names:
        for layer in route.layers:
            value: OfHeads = {layer: name}
            yield Part("value", _changed(route, value=value), layer=layer, name=name)
        yield Part("value", _changed(route, value=name), name=name)


def _content(route: Route) -> Iterator[Part]:
    """The key alone, and all that is carried, of all layers."""
    if route.calibration is None or {route.control.key, route.control.value} != {"own"}:
        return
    names: tuple[Carried, ...] = ("mean", "other")
    for name in names:
        yield Part("key", _changed(route, key=name), name=name)
        yield Part("content", _changed(route, key=name, value=name), name=name)


def _changed(route: Route, **changes: object) -> Route:
    fields = {**route.control.model_dump(), **changes}
    if route.calibration is not None:
        fields["calibration"] = route.calibration.sha256
    return replace(route, control=Control.model_validate(fields))
