"""Route: which layers are re-routed, how strongly, and with what prefix; a plain value."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Unpack, get_args

from kvlens.layers.control import PAPER, Control, ControlOptions, OtherStates, control_of
from kvlens.layers.folder import local_file
from kvlens.layers.layer_set import MOST_BIAS, LayerSet, Position
from kvlens.models.info import ModelInfo
from kvlens.store.arguments import refusal, shown
from kvlens.store.checking import layer_list
from kvlens.store.errors import InputError

POSITIONS: tuple[str, ...] = get_args(Position)


@dataclass(frozen=True)
class Route:
    """A route through a model; no layers are the plain model.

    Attributes:
        layers: 0-based block indices, ascending.
        bias: added to the re-routed column's logit, one number a layer.
        position: the re-routed key as cached (``keep``), re-rotated to position 0 (``origin``) or
            not rotated (``none``).
        control: whom the prefix reaches and what it carries.
        calibration: the other texts' keys and values that `control` needs.
    """

    layers: tuple[int, ...]
    bias: tuple[float, ...]
    position: str = "keep"
    control: Control = PAPER
    calibration: OtherStates | None = None

    @classmethod
    def of(
        cls,
        model: ModelInfo,
        layers: RouteLike,
        bias: float | Sequence[float] | None = None,
        position: str | None = None,
        force: bool = False,
        **control: Unpack[ControlOptions],
    ) -> Route:
        """A route that fits `model`, from anything that names one.

        Args:
            model: what is re-routed.
            layers: a route, a layer set, its file, or block indices.
            bias: one number, or one a layer in the order of `layers`; default: that of the layer
                set, else 1.
            position: default: that of the layer set, else ``keep``.
            force: take a layer set that was made for another model.
            **control: see `ControlOptions`; default: those of the route or layer set.

        Returns:
            The route, its layers ascending.

        Raises:
            InputError: for layers outside the model, repeated or that cannot be re-routed, an
                unknown position, a bias that is no number or plus infinity, a layer set of
                another model, and control options as `control_of` does.
        """
        brought: Control = PAPER
        known: OtherStates | None = None
        if isinstance(layers, str | Path):
            layers = LayerSet.load(layers)
        if isinstance(layers, LayerSet):
            check_model(layers, model, force)
        if isinstance(layers, Route):
            known = layers.calibration
        if isinstance(layers, Route | LayerSet):
            brought = layers.control
            bias = layers.bias if bias is None else bias
            position = position or layers.position
            layers = layers.layers
        indices = block_indices(layers, model)
        biases = bias_per_layer(1.0 if bias is None else bias, len(indices))
        position = position or "keep"
        if position not in POSITIONS:
            choices = ", ".join(POSITIONS)
            raise InputError(f"unknown position coding {shown(position)}: give {choices}")
        ascending = sorted(zip(indices, biases, strict=True))
        controlled, calibration = control_of(model, indices, brought, known, control)
        return cls(
            layers=tuple(layer for layer, _ in ascending),
            bias=tuple(bias for _, bias in ascending),
            position=position,
            control=controlled,
            calibration=calibration,
        )

    @property
    def bias_of(self) -> dict[int, float]:
        """Layer -> bias."""
        return dict(zip(self.layers, self.bias, strict=True))


RouteLike = Route | LayerSet | str | Path | Sequence[int]
"""What names a route: itself, a layer set, its file or name at the hub, or block indices."""


def a_route(name: str, value: Any) -> Any:
    """The check of a parameter that names a route; block indices become plain numbers.

    The name of a layer set at the hub becomes the file that is fetched.
    """
    if isinstance(value, str | Path):
        return local_file(value)
    if isinstance(value, Route | LayerSet):
        return value
    try:
        return layer_list(name, value)
    except InputError:
        raise refusal(name, value, "a layer set, its file or block indices") from None


def check_model(layer_set: LayerSet, model: ModelInfo, force: bool) -> None:
    """Raise InputError for a layer set of another model, unless `force`."""
    made_for = layer_set.model
    if force or made_for.same_weights(model):
        return
    raise InputError(
        f"this layer set was made for {made_for.name} ({made_for.revision[:19]}), "
        f"not for {model.name} ({model.revision[:19]}): profile this model, or `force=True`"
    )


def block_indices(layers: Any, model: ModelInfo) -> tuple[int, ...]:
    """Layers as block indices of `model`, in their order; raises InputError for others."""
    # One more than fit in shows already that one is outside or repeated.
    try:
        indices = tuple(operator.index(layer) for layer in islice(layers, model.n_layers + 1))
    except TypeError:
        raise InputError(
            f"layers are a layer set, its file or block indices, not {shown(layers)}"
        ) from None
    last = model.n_layers - 1
    outside = [layer for layer in indices if not 0 <= layer <= last]
    if outside:
        layer = shown(outside[0])
        raise InputError(f"layer {layer} is outside {model.name}, which has layers 0 to {last}")
    if len(set(indices)) < len(indices):
        raise InputError(f"the layers {shown(list(indices))} repeat one")
    model.check_reroutable(indices)
    return indices


def bias_per_layer(bias: Any, n: int) -> tuple[float, ...]:
    """One bias for each of `n` layers; raises InputError for what is not that."""
    try:
        biases = [float(value) for value in bias] if hasattr(bias, "__len__") else [float(bias)] * n
    except (TypeError, ValueError, OverflowError) as error:
        message = f"the bias must be one number, or one per layer, not {shown(bias)}"
        raise InputError(message) from error
    if len(biases) != n:
        raise InputError(f"{len(biases)} biases for {n} layers: give one number, or one per layer")
    if not all(value == -math.inf or abs(value) <= MOST_BIAS for value in biases):  # nor NaN
        raise InputError(
            f"the bias must be a number or minus infinity, at most {MOST_BIAS:g} in size, "
            f"not {shown(bias)}"
        )
    return tuple(biases)
