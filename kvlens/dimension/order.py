"""Order: whether the layers keep the order of their IDs when there are fewer texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kvlens.dimension.draws import Draws

FEWEST_LAYERS = 3


@dataclass(frozen=True)
class Order:
    """How well the order of layers holds, by one estimator.

    Attributes:
        n: texts of a half.
        kept: Spearman correlation over layers between the mean ID of both halves and the ID of all
            texts. They share texts, so noise agrees in part.
        between: the same between the two halves, which share none; None where there is one half.
    """

    n: int
    kept: float
    between: float | None


def order_of(halves: Draws, estimator: str, values: Float[np.ndarray, " n_layers"]) -> Order | None:
    """The order of layers in the halves of the texts against that of all.

    Args:
        halves: the first level of a decimation.
        estimator: one of its estimators.
        values: the ID of all texts by layer.

    Returns:
        The order; None for fewer than three layers, and where all have one ID.
    """
    parts = np.array(halves.values[estimator])
    if len(values) < FEWEST_LAYERS:
        return None
    kept = _spearman(parts.mean(axis=0), values)
    if kept is None:
        return None
    between = _spearman(parts[0], parts[1]) if len(parts) == 2 else None
    return Order(halves.n, kept, between)


def order_words(orders: dict[str, Order], n: int) -> str:
    """The orders by several estimators, in words.

    Args:
        orders: estimator -> order, at least one.
        n: how many texts there are in all.
    """
    first = next(iter(orders.values()))
    kept = ", ".join(f"{order.kept:.2f} ({name})" for name, order in orders.items())
    between = [
        f"{order.between:.2f} ({name})"
        for name, order in orders.items()
        if order.between is not None
    ]
    words = f"Spearman between n/2 and n = {kept}; n = {n} texts"
    return f"{words}; between two halves of {first.n}: {', '.join(between)}" if between else words


def _spearman(
    first: Sequence[float] | Float[np.ndarray, " n"],
    second: Sequence[float] | Float[np.ndarray, " n"],
) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second).statistic)
