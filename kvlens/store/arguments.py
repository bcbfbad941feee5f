"""Arguments: what Python callers hand in, refused by the parameter's name where it is no value."""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from pathlib import Path
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
        raise refusal(name, value, "a whole number")
    try:
        number = operator.index(value)
    except TypeError:
        raise refusal(name, value, "a whole number") from None
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
        raise refusal(name, value, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise refusal(name, value, "a number that a computer holds") from None
    if not math.isfinite(number):
        raise refusal(name, value, "a finite number")
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
        raise refusal(name, value, "a text")
    return value


def _check_range(name: str, number: float, least: float | None, most: float | None) -> None:
    if least is not None and number < least:
        raise InputError(f"`{name}` is {shown(number)}; it must be at least {least}")
    if most is not None and number > most:
        raise InputError(f"`{name}` is {shown(number)}; it must be at most {most}")


def refusal(name: str, value: Any, wanted: str) -> InputError:
    """The refusal of a value by its parameter's name."""
    return InputError(f"`{name}` is {shown(value)} ({type(value).__name__}), not {wanted}")


def shown(value: Any) -> str:
    """A value in a message, however long it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def path_argument(name: str, value: Any) -> Path:
    """The path of a file or a folder.

    Args:
        name: of the parameter, for the message.
        value: a text or a path.

    Returns:
        The path.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return Path(path)
    raise refusal(name, value, "a path")


def flag_argument(name: str, value: Any) -> bool:
    """True or False.

    Args:
        name: of the parameter, for the message.
        value: Python's or numpy's.

    Returns:
        Python's own.

    Raises:
        InputError: for anything else, 0 and 1 among it.
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise refusal(name, value, "True or False")
    return bool(value)


def choice_argument(name: str, value: Any, choices: Iterable[str]) -> str:
    """A text out of a few.

    Args:
        name: of the parameter, for the message.
        value: what was given.
        choices: what is allowed.

    Returns:
        `value`.

    Raises:
        InputError: for anything else, with the choices.
    """
    allowed = list(choices)
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"`{name}` is {shown(value)}; it must be one of {', '.join(allowed)}")
    return value


def list_argument(name: str, value: Any, of: str) -> list[Any]:
    """The members of a list, a tuple or an array.

    Args:
        name: of the parameter, for the message.
        value: what was given; a text would be a list of its letters, and is refused.
        of: what the members are, such as "names".

    Returns:
        The members, in their order.

    Raises:
        InputError: for anything that has no members in an order.
    """
    no_list = isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable)
    if no_list:
        raise refusal(name, value, f"a list of {of}")
    return list(value)
