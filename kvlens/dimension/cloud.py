"""Cloud: points that are read a block of rows at a time, whatever holds them.

The points may be a memory map, or anything that has a shape, a dtype and rows by number: nothing
of the size of all points is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from kvlens.store.errors import InputError

BLOCK = 1024  # rows; their products with another block fill 4 MiB in float32
SMALL_BLOCK = 64  # rows that stay in a core's cache
CENTRE_ROWS = 256

# Distances from the centre whose squares, and their rounding errors, float32 holds.
SHORTEST = 1e-9
LONGEST = 1e15


@runtime_checkable
class Rows(Protocol):
    """Rows of numbers ``[n, d]``: an array, a memory map, or shards behind one index."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype:
        """Any real type."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """The rows of a slice, or of an array of row numbers, as an array."""


@dataclass(frozen=True)
class Cloud:
    """Some rows of an array, as points.

    Attributes:
        points: the array.
        rows: which of its rows are points, ascending.
        centre: about their middle. Huge values that all points share would make products of
            points imprecise, so products are taken about it.
        squares: float64, squared distance of each point from the centre.
        lengths: float64, distance of each point from the origin.
    """

    points: Rows
    rows: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, " d"]
    squares: Float[np.ndarray, " n"]
    lengths: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, points: Rows, rows: Int[np.ndarray, " n"] | None = None) -> Cloud:
        """The cloud of an array's rows; None: all."""
        rows = np.arange(len(points)) if rows is None else rows
        spaced = np.linspace(0, len(rows) - 1, min(len(rows), CENTRE_ROWS)).astype(int)
        # The median, since a few points may lie far from all others.
        centre = np.median(rows_of(points, rows[spaced]).astype(np.float64), axis=0)
        if is_narrow(points.dtype):
            centre = centre.astype(np.float32).astype(np.float64)
        squares = np.empty(len(rows))
        lengths = np.empty(len(rows))
        for block in blocks(len(rows), SMALL_BLOCK):
            states = rows_of(points, rows[block]).astype(np.float64)
            lengths[block] = np.sqrt(np.einsum("nd,nd->n", states, states))
            states -= centre
            squares[block] = np.einsum("nd,nd->n", states, states)
        return cls(points, rows, centre, squares, lengths)

    @property
    def n(self) -> int:
        """How many points there are."""
        return len(self.rows)

    @property
    def d(self) -> int:
        """How many coordinates they have."""
        return int(self.points.shape[1])

    @property
    def scale(self) -> float:
        """A power of two that keeps squares far from the ends of float32; mostly 1."""
        farthest = np.sqrt(self.squares.max())
        if SHORTEST < farthest < LONGEST or not 0 < farthest < np.inf:
            return 1.0
        return float(2.0 ** -np.ceil(np.log2(farthest)))

    def part(self, chosen: Int[np.ndarray, " m"]) -> Cloud:
        """The points of these numbers, ascending, as a cloud."""
        return replace(
            self,
            rows=self.rows[chosen],
            squares=self.squares[chosen],
            lengths=self.lengths[chosen],
        )

    def exact(self, chosen: Int[np.ndarray, " m"] | slice) -> Float[np.ndarray, "m d"]:
        """Points as they are, float64."""
        return rows_of(self.points, self.rows[chosen]).astype(np.float64)

    def centred(
        self, chosen: Int[np.ndarray, " m"] | slice, dtype: type[np.floating]
    ) -> Float[np.ndarray, "m d"]:
        """Points about the centre, times `scale`, each number rounded once or twice to `dtype`."""
        # A difference of two float32 numbers is as good in float32 as any.
        inside = dtype if is_narrow(self.points.dtype) else np.float64
        states = rows_of(self.points, self.rows[chosen]).astype(inside)
        states -= self.centre.astype(inside)
        if self.scale != 1:
            states *= inside(self.scale)
        return states.astype(dtype, copy=False)


def finite_rows(X: ArrayLike | Rows, layer: int) -> Rows:
    """`X` as rows ``[n, d]`` of finite numbers, in its own dtype; what is read by rows stays.

    Raises:
        InputError: for anything else; it names the layer.
    """
    by_rows = isinstance(X, Rows) and isinstance(X.dtype, np.dtype)
    points = cast(Rows, X) if by_rows else np.asarray(X)
    if points.dtype.kind not in "fiub":
        raise InputError(f"`X` of layer {layer} has to hold real numbers, not {points.dtype}")
    if len(points.shape) != 2 or 0 in points.shape:
        shape = list(points.shape)
        raise InputError(f"layer {layer}: points have to be an array [n, d], not of shape {shape}")
    rows = (np.asarray(points[block]) for block in blocks(len(points)))
    bad = sum(np.count_nonzero(~np.isfinite(some).all(axis=1)) for some in rows)
    if bad:
        raise InputError(
            f"layer {layer}: NaN or infinity in {bad} of {len(points)} states: "
            'record again with `dtype="float32"`'
        )
    return points


def rows_of(points: Rows, rows: Int[np.ndarray, " m"]) -> NDArray:
    """Some rows, ascending; those beside each other are read by a slice."""
    beside = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    return np.asarray(points[int(rows[0]) : int(rows[-1]) + 1] if beside else points[rows])


def is_narrow(dtype: np.dtype) -> bool:
    """Whether all numbers of the type are float32 numbers, too."""
    return dtype.kind == "f" and dtype.itemsize <= 4


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices of `size` that cover n in turn."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
