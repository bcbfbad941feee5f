"""Depth: layers that are given as shares of a model's depth."""

from __future__ import annotations

from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError


def relative(lm: LanguageModel, depth: float) -> int:
    """A layer count given as a share of the depth, rounded to this model's own."""
    return round(depth * lm.info.n_layers)


def layers_between(lm: LanguageModel, depth: tuple[float, float]) -> range:
    """The layers between two shares of the depth, at least one.

    Args:
        lm: the model.
        depth: from and to, 0 to 1; rounded to this model's layers.

    Returns:
        Block indices.

    Raises:
        InputError: where there are none.
    """
    problem = InputError(
        f"`depth` needs two shares of the layers, 0 <= from <= to <= 1, not {shown(depth)}"
    )
    try:
        first, end = (relative(lm, share) for share in depth)
    except (TypeError, ValueError, OverflowError):
        raise problem from None
    if not 0 <= depth[0] <= depth[1] <= 1 or first == lm.info.n_layers:
        raise problem
    return range(first, max(end, first + 1))


def attention_layers(lm: LanguageModel, depth: tuple[float, float]) -> tuple[int, ...]:
    """Those of `layers_between` that have keys and values of their own.

    Args:
        lm: the model.
        depth: from and to, 0 to 1.

    Returns:
        Block indices.

    Raises:
        InputError: where there are none.
    """
    with_keys = set(lm.info.layers_with_keys())
    layers = tuple(layer for layer in layers_between(lm, depth) if layer in with_keys)
    if not layers:
        raise InputError(f"`depth` {shown(depth)} holds no attention layers of {lm.info.name}")
    return layers
