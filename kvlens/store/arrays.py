"""Arrays: what a saved array has to be, said by its axes; numpy's and torch's alike."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from kvlens.store.arguments import shown
from kvlens.store.errors import InputError


def check_array(
    name: str,
    array: Any,
    axes: str,
    sizes: Mapping[str, int],
    dtypes: Collection[str] = ("float32",),
) -> None:
    """Raise InputError unless an array has these axes and one of these types.

    Args:
        name: of the array, for the message.
        array: numpy's or torch's.
        axes: the name or the size of each, such as ``"n_texts 2 n_layers n_heads"``; one of an
            unknown name may have any size.
        sizes: name of an axis -> its size.
        dtypes: the types that it may have, by name.
    """
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype not in dtypes:
        raise InputError(f"{name} is {dtype}, not {' or '.join(dtypes)}")
    names = axes.split()
    shape = list(array.shape)
    expected = [_size(axis, sizes) for axis in names]
    known = len(shape) == len(names) and all(
        size in (None, actual) for size, actual in zip(expected, shape, strict=True)
    )
    if not known:
        raise InputError(f"{name} is {shape}, not [{', '.join(names)}] = {expected}")


def _size(axis: str, sizes: Mapping[str, int]) -> int | None:
    """The size of an axis; None where it may have any."""
    return int(axis) if axis.isdigit() else sizes.get(axis)


def check_finite(name: str, array: Any) -> None:
    """Raise InputError for an array, numpy's or torch's, with NaN or infinity."""
    if 0 in array.shape:
        return
    # The ends of the range, since a mask would need memory of its own; NaN is in both.
    if not (math.isfinite(array.min()) and math.isfinite(array.max())):
        raise InputError(f"{name} has NaN or infinity")


def check_names(names: Collection[str], known: Collection[str], required: Collection[str]) -> None:
    """Raise InputError for arrays of unknown names, and where a required one is missing."""
    missing = [name for name in required if name not in names]
    if missing:
        raise InputError(f"the array {missing[0]} is missing")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"it has an unknown array {shown(unknown[0])}")
