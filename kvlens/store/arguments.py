"""Arguments: what Python callers hand in, refused by the parameter's name where it is no value."""

from __future__ import annotations

import math
import operator
import reprlib
from numbers import Real
from typing import Any

from kvlens.store.errors import InputError


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """A whole number.

    Args:
        name: of the parameter, for the message.
        value: Python's or numpy's; no bool, no text, no number with a fraction or a point.
        least: the smallest that is allowed.
        most: the largest.

    Returns:
        Python's own.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool):
        raise _refusal(name, value, "a whole number")
    try:
        number = operator.index(value)
    except TypeError:
        raise _refusal(name, value, "a whole number") from None
    _check_range(name, number, least, most)
    return number


def real_number(
    name: str, value: Any, least: float | None = None, most: float | None = None
) -> float:
    """A finite number.

    Args:
        name: of the parameter, for the message.
        value: Python's or numpy's; no bool, no text.
        least: the smallest that is allowed.
        most: the largest.

    Returns:
        Python's own float.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _refusal(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise _refusal(name, value, "a number that a computer holds") from None
    if not math.isfinite(number):
        raise _refusal(name, value, "a finite number")
    _check_range(name, number, least, most)
    return number


def text_argument(name: str, value: Any) -> str:
    """A text.

    Args:
        name: of the parameter, for the message.
        value: what was given.

    Returns:
        `value`.

    Raises:
        InputError: for what is no `str`.
    """
    if not isinstance(value, str):
        raise _refusal(name, value, "a text")
    return value


def _check_range(name: str, number: float, least: float | None, most: float | None) -> None:
    if least is not None and number < least:
        raise InputError(f"`{name}` is {shown(number)}; it must be at least {least}")
    if most is not None and number > most:
        raise InputError(f"`{name}` is {shown(number)}; it must be at most {most}")


def _refusal(name: str, value: Any, wanted: str) -> InputError:
    return InputError(f"`{name}` is {shown(value)} ({type(value).__name__}), not {wanted}")


def shown(value: Any) -> str:
    """A value in a message, however long it is."""
    return reprlib.repr(value)
