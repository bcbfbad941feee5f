"""Door: who re-routes a model comes in here, and is let in where re-routing it is proven exact."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Unpack

from kvlens.layers.control import ControlOptions
from kvlens.layers.route import Route, RouteLike, a_route
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.rerouting.calibration import with_calibration
from kvlens.rerouting.head_names import check_heads
from kvlens.rerouting.prefix import Rerouting, rerouted
from kvlens.rerouting.probe_query import not_probed
from kvlens.rerouting.proof import refusal
from kvlens.store.checking import arguments, bias, optional, text
from kvlens.store.errors import InputError


@arguments(lm=a_model, layers=a_route, bias=optional(bias), position=optional(text))
@contextlib.contextmanager
def reroute(
    lm: LanguageModel,
    layers: RouteLike,
    bias: float | Sequence[float] | None = None,
    position: str | None = None,
    **control: Unpack[ControlOptions],
) -> Iterator[Rerouting]:
    """Re-route the final token's key and value, for every forward pass inside the context.

    Serves ``lm(...)``, ``lm.hf``, ``lm.base`` and ``lm.bridge``. The final real token of each row
    comes from the ``attention_mask`` ``[batch, seq_len]`` (either padding side); or set ``.last``
    on the yielded object. What asks for the text's own tokens needs its ``.text_mask``.

    It serves this thread alone: what others run on the model waits until the block is left (after
    10 seconds a warning says so), or is refused. So do not wait inside for threads that run it.

    Args:
        lm: the model.
        layers: a route, a layer set, its file, or block indices; none leaves the model as it is.
        bias: added to the prefix's logit, after soft-capping: one number, or one a layer in the
            order of `layers`; default: that of the route or layer set, else 1.
        position: ``keep`` the key as rotated at its own place, rotate it to the ``origin``, or
            ``none`` (not rotated); default: that of the route or layer set, else ``keep``.
        **control: whom the prefix reaches and what it carries, see `ControlOptions`.

    Yields:
        What the hooks share; its ``last`` and ``text_mask`` may be set before a pass.

    Raises:
        InputError: for what `Route.of` and `check_route` refuse, a model that is re-routed already
            or in train mode, and inside the context for a filled KV cache, a mask of another
            shape, and all that measures the plain model, such as an encoder.
    """
    route = Route.of(lm.info, layers, bias, position, **with_calibration(layers, control))
    if not route.layers:
        yield Rerouting(lm, route)
        return
    check_route(lm, route)
    bridge_refusal = refusal(lm, route, "bridge") if lm.has_bridge else None
    trees = lm.trees if bridge_refusal is None else ("raw",)
    with lm.turn() as turn, rerouted(lm, route, trees) as rerouting:
        if bridge_refusal is not None:
            turn.before(lm.decoder("bridge"), partial(_refuse, bridge_refusal))
        yield rerouting


def check_route(lm: LanguageModel, route: Route) -> None:
    """Raise InputError unless the route fits the layers and is proven exact on the raw model.

    A route without layers is.
    """
    for layer in route.layers:
        check_heads(route.control, lm.anatomy.layers[layer])
        # Asked of every layer, so that its pass of its own comes before those that are counted on.
        meets_what_it_caches = lm.attends_as_cached(layer)
        if route.control.source == "probe" and not meets_what_it_caches:
            raise not_probed(layer, lm.info.name)
    message = refusal(lm, route, "raw") if route.layers else None
    if message is not None:
        raise InputError(message)


def _refuse(message: str, *ignored: Any) -> None:
    raise InputError(message)
