"""Figures of intrinsic dimension by layer."""

from __future__ import annotations

from pathlib import Path

from kvlens.layers.layer_set import LayerSet
from kvlens.plots.profile import plot_profile
from kvlens.reporting.figures.layout import DOUBLE, Layout
from kvlens.reporting.figures.saved import Drawn, load_all, load_results, source, texts_of

ONE_WIDTH = 5.0  # inches of the picture of one model, where there is room


def layer_id(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Intrinsic dimension of the final token's hidden state after each block, over relative
    depth.
    """
    sets = load_all(data, "layers")
    profiles = [layer_set.profile for layer_set in sets]
    ax = plot_profile(profiles, sets, width=layout.width)
    numbers = " ".join(f"{layer_set.model.name}: {layer_set.reason}" for layer_set in sets)
    return Drawn(ax.figure, numbers, [_source(layer_set) for layer_set in sets])


def layer_id_of_one(data: Path, layout: Layout = DOUBLE, model: str = "*") -> Drawn:
    """Intrinsic dimension of the final token's hidden state after each block of one model, by two
    estimators.
    """
    ((layer_set,),) = load_results(data, "layers", model=model)
    ax = plot_profile(layer_set.profile, layer_set, width=min(ONE_WIDTH, layout.width))
    return Drawn(ax.figure, layer_set.reason, [_source(layer_set)])


def _source(layer_set: LayerSet) -> str:
    return source(layer_set, texts_of(layer_set.profile))
