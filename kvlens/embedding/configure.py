"""Configure: what a user gives for a method becomes the `Method` that an encoder runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvlens.layers.control import Control
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.readout import LAST, block_of
from kvlens.layers.route import Route, RouteLike, block_indices, check_model
from kvlens.methods.base import PREPARE, Method
from kvlens.methods.registry import get_method, methods, takes_layers
from kvlens.models.info import ModelInfo
from kvlens.rerouting.calibration import Calibration
from kvlens.store.errors import InputError


def configure(
    model: ModelInfo,
    method: str | Method,
    layers: RouteLike | None,
    settings: Mapping[str, Any],
    force: bool = False,
) -> Method:
    """A method with its settings.

    Args:
        model: what it will run on.
        method: a name, or a Method.
        layers: for a name that takes layers; other names do not look at them.
        settings: the method's own; they go before what `layers` bring along.
        force: take a layer set that was made for another model.

    Returns:
        The method, not yet checked against the model (see `Method.for_model`).

    Raises:
        InputError: for an unknown method or setting, layers beside a Method, and layers that do
            not fit the model.
    """
    if isinstance(method, str):
        brought: dict[str, Any] = {}
        if layers is not None and takes_layers(method):
            brought = settings_from(layers, model, force)
        if isinstance(layers, str | Path) and takes_layers(method):
            brought |= methods()[method].settings_beside(Path(layers).parent)
        return get_method(method, **{**brought, **settings})
    if layers is not None:
        raise InputError("layers go with the name of a method; this Method has its own settings")
    prepare = settings.get(PREPARE)
    changes = {name: value for name, value in settings.items() if name != PREPARE}
    changed = replace(method, **changes)
    return changed if prepare is None else changed.preparing(prepare)


def settings_from(layers: RouteLike, model: ModelInfo, force: bool = False) -> dict[str, Any]:
    """The settings that layers bring to a method that takes layers.

    Args:
        layers: a layer set or its file, which bring bias, position, control, pooling, prompts and
            readout along; a route, which brings bias, position and control; or block indices alone.
        model: what is re-routed.
        force: take a layer set that was made for another model.

    Returns:
        Keyword arguments of the method, in the form in which they are recorded: signatures and
        mteb's results depend on it.

    Raises:
        InputError: for a layer set of another model, and layers outside the model or repeated.
    """
    if isinstance(layers, str | Path):
        layer_set = LayerSet.load(layers)
        beside = _beside(Path(layers).parent, layer_set)
        return {**settings_from(layer_set, model, force), **beside}
    if isinstance(layers, LayerSet):
        check_model(layers, model, force)
        names = ("layers", "bias", "position", "pooling")
        settings = {name: getattr(layers, name) for name in names}
        prompts = layers.prompts
        settings |= {"query": prompts.query, "document": prompts.document}
        return {**settings, **_changes(layers.control), **_reading(layers, model)}
    if isinstance(layers, Route):
        indices = block_indices(layers.layers, model)
        settings = {"layers": indices, "bias": _plainest(layers.bias), "position": layers.position}
        calibration = {"calibration": layers.calibration} if layers.calibration else {}
        return {**settings, **_changes(layers.control), **calibration}
    return {"layers": block_indices(layers, model)}


def _reading(layers: LayerSet, model: ModelInfo) -> dict[str, Any]:
    """Where a layer set reads hidden states, as a block's index; nothing for the plain place."""
    readout = LAST if layers.readout is None else block_of(layers.readout, model.n_layers)
    if (readout, layers.final_norm) == (LAST, True):
        return {}
    return {"readout": readout, "final_norm": layers.final_norm}


def _changes(control: Control) -> dict[str, Any]:
    """What a control sets, without the hash of what it needs."""
    return {name: value for name, value in control.changes.items() if name != "calibration"}


def _beside(folder: Path, layer_set: LayerSet) -> dict[str, Any]:
    """The calibration states that lie beside a layer set's file, where it needs any."""
    calibration = Calibration.beside(folder, layer_set.control.calibration)
    return {} if calibration is None else {"calibration": calibration}


def _plainest(biases: tuple[float, ...]) -> float | tuple[float, ...]:
    """One number where all layers have the same, as a person would give it; else one a layer."""
    distinct = set(biases) or {1.0}
    return distinct.pop() if len(distinct) == 1 else biases
