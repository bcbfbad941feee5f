"""Search: which points may be nearest, by lower bounds of squared distances from products.

|x - y|^2 = |x|^2 + |y|^2 - 2xy, rounded, errs by a bounded share of |x|^2 + |y|^2. Without that
share it is a lower bound of the squared distance. Whoever is not among the m smallest bounds of a
point is at least as far from it as the largest of these m: so the exact distances of the m
candidates tell whether the nearest are among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from kvlens.dimension.cloud import Cloud, blocks

# Coordinates multiplied at a time: the rounding errors of a product grow with their number.
COORDINATES = 2048
# Rounding steps of a bound beside those of the sums: casts, norms, scale, additions.
FURTHER_STEPS = 16
# Rows that are put in order at a time: the order of one is twice its numbers' size.
ROWS = 128


@dataclass(frozen=True)
class Candidates:
    """Who may be nearest to each of some points, in no order.

    Attributes:
        low: lower bound of the squared distance; no point that is left out is nearer than the
            largest of its row.
        high: upper bound of the squared distance.
        indices: which point it is.
    """

    low: Float[np.ndarray, "n m"]
    high: Float[np.ndarray, "n m"]
    indices: Int[np.ndarray, "n m"]

    def of(self, rows: slice) -> Candidates:
        """Those of some of the points."""
        return Candidates(self.low[rows], self.high[rows], self.indices[rows])


Search = Callable[[Cloud, int, Int[np.ndarray, " n"] | None], Candidates]
"""Finds the m likeliest neighbours of some points of a cloud, or of all."""


def candidates(
    cloud: Cloud, m: int, dtype: type[np.floating], of: Int[np.ndarray, " n"] | None = None
) -> Candidates:
    """The m points with the smallest lower bounds of each point's distance.

    Args:
        cloud: the points.
        m: how many of each, below their number.
        dtype: of the products: float32, or float64 where that is too coarse.
        of: of which points; None: of all, each pair of points multiplied once.

    Returns:
        The candidates; a point is none of its own.
    """
    bounds = Bounds(cloud, dtype)
    if of is None:
        nearest = _nearest_of_all(bounds, m)
        of = np.arange(cloud.n)
    else:
        nearest = _nearest_of_some(bounds, m, of)
    return bounds.candidates(nearest.values, nearest.indices, of)


def in_float32(cloud: Cloud, m: int, of: Int[np.ndarray, " n"] | None) -> Candidates:
    """The candidates by products in float32, here."""
    return candidates(cloud, m, np.float32, of)


def _nearest_of_all(bounds: Bounds, m: int) -> Smallest:
    nearest = Smallest(bounds.cloud.n, m, bounds.dtype)
    parts = list(blocks(bounds.cloud.n))
    # A block with itself first: what comes later then has few candidates.
    for part in parts:
        rows = bounds.block(part)
        products = bounds.lower(rows, rows)
        np.fill_diagonal(products, np.inf)
        nearest.offer(part, products, part.start)
    for i, part in enumerate(parts):
        rows = bounds.block(part)
        for other in parts[i + 1 :]:
            products = bounds.lower(rows, bounds.block(other))
            nearest.offer(part, products, other.start)
            nearest.offer_columns(other, products, part.start)
    return nearest


def _nearest_of_some(bounds: Bounds, m: int, of: Int[np.ndarray, " n"]) -> Smallest:
    nearest = Smallest(len(of), m, bounds.dtype)
    for part in blocks(len(of)):
        rows = bounds.block(of[part])
        for other in blocks(bounds.cloud.n):
            products = bounds.lower(rows, bounds.block(other))
            itself = np.flatnonzero((of[part] >= other.start) & (of[part] < other.stop))
            products[itself, of[part][itself] - other.start] = np.inf
            nearest.offer(part, products, other.start)
    return nearest


@dataclass(frozen=True)
class Block:
    """Some points about the centre, and their squared lengths less the error of products."""

    points: Float[np.ndarray, "n d"]
    squares: Float[np.ndarray, " n"]


class Bounds:
    """Lower bounds of the squared distances in one cloud."""

    def __init__(self, cloud: Cloud, dtype: type[np.floating]):
        self.cloud = cloud
        self.dtype = dtype
        step = np.finfo(dtype)
        parts = -(-cloud.d // COORDINATES)
        steps = min(cloud.d, COORDINATES) + parts + FURTHER_STEPS
        self.share = float(steps * step.eps)  # of |x|^2 + |y|^2; twice what theory needs
        self.least = float(4 * cloud.d * step.tiny)  # what numbers too small for the type may add

    def block(self, chosen: Int[np.ndarray, " n"] | slice) -> Block:
        """Some of the points."""
        squares = self._squares(chosen) * (1 - self.share) - self.least
        return Block(self.cloud.centred(chosen, self.dtype), squares.astype(self.dtype))

    def _squares(self, chosen: NDArray | slice) -> NDArray:
        return self.cloud.squares[chosen] * self.cloud.scale**2

    def lower(self, rows: Block, others: Block) -> Float[np.ndarray, "n m"]:
        """Of the squared distance of each row to each other, in units of the scale."""
        first, *further = blocks(self.cloud.d, COORDINATES)
        bounds = rows.points[:, first] @ others.points[:, first].T
        for part in further:
            bounds += rows.points[:, part] @ others.points[:, part].T
        bounds *= -2
        bounds += rows.squares[:, None]
        bounds += others.squares
        return bounds

    def candidates(
        self,
        values: Float[np.ndarray, "n m"],
        indices: Int[np.ndarray, "n m"],
        of: Int[np.ndarray, " n"],
    ) -> Candidates:
        """What was found of these points, in the units of the points."""
        low = values.astype(np.float64)
        squares = self._squares(of)[:, None] + self._squares(indices)
        high = low + 2 * self.share * squares + 4 * self.least
        units = self.cloud.scale**-2
        return Candidates(low * units, high * units, indices)


class Smallest:
    """The m smallest of the numbers that each row is offered, and where they stand."""

    def __init__(self, n: int, m: int, dtype: type[np.floating]):
        """Begin with none.

        Args:
            n: rows.
            m: how many of each are kept.
            dtype: of the numbers.
        """
        self.values: Float[np.ndarray, "n m"] = np.full((n, m), np.inf, dtype)
        self.indices: Int[np.ndarray, "n m"] = np.zeros((n, m), np.int64)

    def offer(self, rows: slice, values: Float[np.ndarray, "r c"], first: int) -> None:
        """Offer each of some rows the numbers of columns `first`, `first + 1`, ..."""
        limits = self.values[rows].max(axis=1)
        if not np.isfinite(limits).all():
            self._offer_all(rows, values, first)
            return
        row, column = np.divmod(np.flatnonzero(values < limits[:, None]), values.shape[1])
        self._offer_few(rows, row, values[row, column], column + first)

    def offer_columns(self, rows: slice, values: Float[np.ndarray, "c r"], first: int) -> None:
        """As `offer`, of the same numbers with rows and columns exchanged."""
        limits = self.values[rows].max(axis=1)
        if not np.isfinite(limits).all():
            self._offer_all(rows, values.T, first)
            return
        column, row = np.divmod(np.flatnonzero(values < limits), values.shape[1])
        order = np.argsort(row, kind="stable")
        row = row[order]
        column = column[order]
        self._offer_few(rows, row, values[column, row], column + first)

    def _offer_all(self, rows: slice, values: NDArray, first: int) -> None:
        m = min(self.values.shape[1], values.shape[1])
        for part in blocks(len(values), ROWS):
            some = np.ascontiguousarray(values[part])
            columns = np.argpartition(some, m - 1, axis=1)[:, :m]
            where = slice(rows.start + part.start, rows.start + part.stop)
            self._merge(where, np.take_along_axis(some, columns, axis=1), columns + first)

    def _offer_few(self, rows: slice, row: NDArray, values: NDArray, columns: NDArray) -> None:
        """Offer single numbers, by ascending row."""
        if not len(row):
            return
        counts = np.bincount(row, minlength=rows.stop - rows.start)
        place = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
        shape = (len(counts), counts.max())
        offered = np.full(shape, np.inf, values.dtype)
        indices = np.zeros(shape, np.int64)
        offered[row, place] = values
        indices[row, place] = columns
        self._merge(rows, offered, indices)

    def _merge(self, rows: slice, values: NDArray, indices: NDArray) -> None:
        m = self.values.shape[1]
        values = np.concatenate([self.values[rows], values], axis=1)
        indices = np.concatenate([self.indices[rows], indices], axis=1)
        kept = np.argpartition(values, m - 1, axis=1)[:, :m]
        self.values[rows] = np.take_along_axis(values, kept, axis=1)
        self.indices[rows] = np.take_along_axis(indices, kept, axis=1)
