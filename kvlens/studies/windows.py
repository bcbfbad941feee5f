"""Windows: runs of neighbouring layers, and how good it is to re-route one.

Neighbours are those among the layers that can be re-routed: a hybrid's lie apart.

It knows no model and no text: quality comes from cosines and human scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import filterfalse
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from pydantic import model_validator

from kvlens.evaluation.significance import draws, interval, spearman
from kvlens.layers.layer_set import FiniteBias
from kvlens.store.artifact import Record
from kvlens.store.errors import InputError


class Setting(NamedTuple):
    """Which layers are re-routed, ascending, and how strongly."""

    layers: tuple[int, ...]
    bias: float

    @classmethod
    def of(cls, layers: Iterable[int], bias: float) -> Setting:
        """The setting of layers in any order."""
        return cls(tuple(sorted(layers)), float(bias))


class Quality(NamedTuple):
    """Spearman x 100 with its bootstrap 95 % interval over pairs, and what it was computed from."""

    spearman: float
    low: float
    high: float
    cosines: tuple[float, ...]


class Window(Record):
    """Quality with re-routed `layers`.

    Attributes:
        first: the lowest layer.
        width: how many layers.
        layers: 0-based block indices, ascending.
        bias: of all layers.
        spearman: correlation with the human scores x 100.
        low: end of its bootstrap 95 % interval over pairs, on the draws of
            `kvlens.evaluation.significance.draws`.
        high: its other end.
        cosines: of each pair, rounded to 7 digits.
    """

    first: int
    width: int
    layers: tuple[int, ...]
    bias: FiniteBias
    spearman: float
    low: float
    high: float
    cosines: tuple[float, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Window:
        if (self.first, self.width) != (min(self.layers, default=0), len(self.layers)):
            raise ValueError("first and width are not those of the layers")
        return self

    @classmethod
    def of(cls, setting: Setting, quality: Quality) -> Window:
        """The window of a setting."""
        layers = setting.layers
        where = {"first": min(layers, default=0), "width": len(layers)}
        return cls(**where, **setting._asdict(), **quality._asdict())

    @property
    def setting(self) -> Setting:
        """What is re-routed."""
        return Setting(self.layers, self.bias)

    def unbroken_among(self, layers: Sequence[int]) -> bool:
        """Whether its layers are neighbours among `layers`, which ascend."""
        return self.layers == tuple(layer for layer in layers if self._spans(layer))

    def _spans(self, layer: int) -> bool:
        return bool(self.layers) and self.layers[0] <= layer <= self.layers[-1]


def windows(layers: int | Sequence[int], widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Every run of neighbouring layers, for each width.

    Args:
        layers: how many a model has; or those that can be re-routed, ascending, as
            `ModelInfo.layers_to_reroute` gives them.
        widths: how many layers a window has.

    Returns:
        0-based block indices, ascending in each window; width by width.

    Raises:
        InputError: for a width below 1 or above the number of layers.
    """
    able = tuple(range(layers)) if isinstance(layers, int) else tuple(layers)
    n = len(able)
    which = "" if able == tuple(range(n)) else " that can be re-routed"
    runs: list[tuple[int, ...]] = []
    for width in widths:
        if not 1 <= width <= n:
            raise InputError(f"a window of {width} layers does not fit into {n} layers{which}")
        runs += [able[first : first + width] for first in range(n - width + 1)]
    return runs


def qualities(
    cosines: Float[np.ndarray, "sets n_pairs"], human: Float[np.ndarray, " n_pairs"]
) -> list[Quality]:
    """The quality of each set of layers, all on the same draws of the pairs."""
    n = len(human)
    whole = spearman(cosines, human, np.ones((1, n)))[:, 0]
    resampled = spearman(cosines, human, draws(n))
    measured = []
    for row, value, samples in zip(cosines.tolist(), whole, resampled, strict=True):
        low, high = interval(samples)
        measured.append(Quality(value, float(low), float(high), tuple(row)))
    return measured


def split(
    measured: Iterable[Window], layers: Sequence[int]
) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
    """The windows of each width and bias that was measured at every depth, and the rest.

    Args:
        measured: in any order.
        layers: those that can be re-routed, ascending.

    Returns:
        Windows, and other sets of layers, each by bias, width and depth.
    """
    ordered = sorted(measured, key=lambda window: (window.bias, window.width, window.first))
    complete = _complete_widths({window.setting for window in ordered}, layers)

    def is_window(window: Window) -> bool:
        return window.unbroken_among(layers) and (window.width, window.bias) in complete

    return tuple(filter(is_window, ordered)), tuple(filterfalse(is_window, ordered))


def _complete_widths(settings: set[Setting], able: Sequence[int]) -> set[tuple[int, float]]:
    """The (width, bias) that were measured at every depth."""
    complete = set()
    for bias in {setting.bias for setting in settings}:
        for width in range(1, len(able) + 1):
            if all((layers, bias) in settings for layers in windows(able, [width])):
                complete.add((width, bias))
    return complete
