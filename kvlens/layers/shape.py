"""Shape: which minima of an ID profile stand out from their errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from pydantic import Field

from kvlens.store.artifact import Record
from kvlens.store.bounds import at_most
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import MOST_LAYERS

# Standard errors of a difference that make it clear; what this means for a whole profile: `shape`.
Z = 3.0

ShapeName = Literal["U", "rising", "falling", "several minima", "peak", "flat"]

LayerIndices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(json_schema_extra={"uniqueItems": True}),
    at_most(MOST_LAYERS, "layers"),
]

Rise = Literal["higher", "lower", "end"]


class Shape(Record):
    """The shape of an ID profile, beyond its errors.

    Attributes:
        name: what it looks like.
        minima: the layers of the minima that stand out; empty when it is flat.
        edge_minima: those of them that belong to an end of the profile.
    """

    name: ShapeName
    minima: LayerIndices
    edge_minima: LayerIndices


def shape(
    values: ArrayLike, stderrs: ArrayLike, z: float = Z, layers: Sequence[int] | None = None
) -> Shape:
    """Name the shape of a profile: which of its minima stand out from their errors.

    A local minimum i counts when, on each side, some layer s before the next lower value is clearly
    higher, ``v_s - v_i > z * sqrt(se_i^2 + se_s^2)``: with equal errors, sublevel-set persistence
    above a threshold. A minimum from which the ID does not rise clearly towards an end belongs to
    that end. One minimum: U, or rising or falling when it belongs to an end, or flat when to both.
    Exactly one at each end: peak. Else: several minima.

    The threshold takes the errors of layers as independent. Layers share their texts, so that
    errors of differences are over-stated, which is conservative (SmolLM2-135M, 500 texts,
    half-subsampling: correlation 0.6 between neighbours, 0.2 five layers apart, none from ten on).
    Against that, nothing corrects for the many pairs compared: with these correlations, a truly
    flat profile of 30 layers is called flat in 20 % of draws at z = 2, 82 % at 3, 96 % at 3.5; a U
    that rises 5 standard errors on each side is called one in 95, 87, 64 %.

    Args:
        values: the ID by layer, ``[n_layers]``.
        stderrs: their standard errors, in the same unit, whatever it is.
        z: standard errors of a difference that make it clear.
        layers: the layer of each value; default 0, 1, ...

    Returns:
        The shape.

    Raises:
        InputError: for empty, unequal or non-finite input, negative errors, and z <= 0.
    """
    v, e = _checked(values, stderrs, z)
    names = list(range(v.size) if layers is None else layers)
    if len(names) != v.size:
        raise InputError(f"{v.size} values, but {len(names)} layers: give one layer per value")
    minima, at_left, at_right = _standing_minima(v, e, z)
    name = _name(len(minima), at_left, at_right)
    if name == "flat":
        return Shape(name=name, minima=(), edge_minima=())
    edges = minima[:1] * at_left + minima[-1:] * at_right
    return Shape(
        name=name,
        minima=tuple(names[i] for i in minima),
        edge_minima=tuple(dict.fromkeys(names[i] for i in edges)),
    )


def _checked(
    values: ArrayLike, stderrs: ArrayLike, z: float
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Both as float64; raises InputError for what makes no profile."""
    v = np.asarray(values, dtype=np.float64)
    e = np.asarray(stderrs, dtype=np.float64)
    if v.ndim != 1 or not v.size or v.shape != e.shape:
        raise InputError(
            f"a profile needs one value and one error per layer, not {v.shape} and {e.shape}"
        )
    finite = np.isfinite(v).all() and np.isfinite(e).all()
    if not (finite and (e >= 0).all() and 0 < z < np.inf):
        raise InputError(
            "values and errors of a profile have to be finite, no error negative, and z above 0"
        )
    return v, e


def _name(n_minima: int, at_left: bool, at_right: bool) -> ShapeName:
    """The name of so many minima, of which the first may belong to the left, the last to the right.

    One minimum that belongs to both ends is a flat profile.
    """
    if n_minima == 2 and at_left and at_right:
        return "peak"
    if n_minima > 1:
        return "several minima"
    if at_left and at_right:
        return "flat"
    if at_left:
        return "rising"
    return "falling" if at_right else "U"


def _standing_minima(
    v: Float[np.ndarray, " n"], e: Float[np.ndarray, " n"], z: float
) -> tuple[list[int], bool, bool]:
    """The minima that count, ascending; whether the first and the last belong to an end."""
    rank = _ranks(v, e)

    def rise(i: int, path: Iterable[int]) -> Rise:
        """What comes first on the path: a lower value, a clearly higher one, or its end."""
        for s in path:
            if rank[s] < rank[i]:
                return "lower"
            if v[s] - v[i] > z * np.hypot(e[i], e[s]):
                return "higher"
        return "end"

    n = len(v)
    to_left = [rise(i, range(i - 1, -1, -1)) for i in range(n)]
    to_right = [rise(i, range(i + 1, n)) for i in range(n)]
    minima = [i for i in range(n) if "lower" not in (to_left[i], to_right[i])]
    return minima, to_left[minima[0]] == "end", to_right[minima[-1]] == "end"


def _ranks(v: Float[np.ndarray, " n"], e: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Place of each value in ascending order.

    Of equal values the more certain one is the lower, so that a mirrored profile has the mirrored
    shape.
    """
    places = np.arange(len(v))
    rank = np.empty(len(v), dtype=int)
    rank[np.lexsort((places, e, v))] = places
    return rank
