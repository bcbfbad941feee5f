"""Checking: a public function says above its signature what its arguments have to be.

Wrong types are refused by the parameter's name before any work; numbers of numpy become Python's
own. Whether values fit together is checked where they are used.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

from kvlens.store.arguments import (
    choice_argument,
    flag_argument,
    list_argument,
    path_argument,
    real_number,
    refusal,
    text_argument,
    whole_number,
)
from kvlens.store.errors import InputError

Check = Callable[[str, Any], Any]
"""Takes a parameter's name and its value; gives the plain value or raises `InputError`."""

Function = TypeVar("Function", bound=Callable[..., Any])

flag: Check = flag_argument
path: Check = path_argument
text: Check = text_argument


def arguments(**checks: Check) -> Callable[[Function], Function]:
    """Check these arguments of every call, and hand their plain values on.

    Args:
        **checks: by parameter; those of ``**options`` too. A default is not checked.

    Returns:
        The decorator. A missing or unknown argument is a `TypeError`, as in any call.
    """

    def decorator(function: Function) -> Function:
        signature = inspect.signature(function)
        kinds = {parameter.kind: name for name, parameter in signature.parameters.items()}
        options = kinds.get(inspect.Parameter.VAR_KEYWORD, "")

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # which says it in the usual words
            for values in (bound.arguments, bound.arguments.get(options, {})):
                for name in checks.keys() & values.keys():
                    values[name] = checks[name](name, values[name])
            return function(*bound.args, **bound.kwargs)

        return checked  # type: ignore[return-value]

    return decorator


def path_text(name: str, value: Any) -> str:
    """A path, as its text: a trailing slash stays, and so does a model's id."""
    path_argument(name, value)
    return os.fspath(value)


def optional(check: Check) -> Check:
    """None, or what `check` takes."""
    return lambda name, value: None if value is None else check(name, value)


def whole(least: int | None = None, most: int | None = None) -> Check:
    """A whole number."""
    return lambda name, value: whole_number(name, value, least, most)


def real(least: float | None = None, most: float | None = None) -> Check:
    """A finite number."""
    return lambda name, value: real_number(name, value, least, most)


def choice(*choices: str) -> Check:
    """One of a few texts."""
    return lambda name, value: choice_argument(name, value, choices)


def a(kind: type | tuple[type, ...], wanted: str) -> Check:
    """A value of a class.

    Args:
        kind: the class, or several.
        wanted: what it is, with its article and how one gets it.
    """

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise refusal(name, value, wanted)
        return value

    return check


def members(check: Check, of: str) -> Check:
    """A list, tuple or array of what `check` takes, as a tuple; a text is no list of letters."""

    def checked(name: str, value: Any) -> tuple[Any, ...]:
        listed = list_argument(name, value, of)
        try:
            return tuple(check(name, member) for member in listed)
        except InputError as error:
            raise InputError(f"{error} (one of its {of})") from None

    return checked


names: Check = members(text_argument, "names")


def axes_to_draw_in(name: str, value: Any) -> Any:
    """Axes of matplotlib, which is not imported for that."""
    if not hasattr(value, "get_figure"):
        raise refusal(name, value, "matplotlib Axes")
    return value


def function(name: str, value: Any) -> Any:
    """Something that can be called, such as a progress."""
    if not callable(value):
        raise refusal(name, value, "a function")
    return value


def layer_list(name: str, value: Any) -> tuple[int, ...]:
    """Block indices, as Python's own whole numbers; whether a model has them is not looked at."""
    wanted = "a list of block indices"
    try:
        listed = list_argument(name, value, "block indices")
        return tuple(_index(layer) for layer in listed)
    except TypeError:
        raise refusal(name, value, wanted) from None


def _index(layer: Any) -> int:
    if isinstance(layer, bool):
        raise TypeError
    return operator.index(layer)


def one_bias(name: str, value: Any) -> float:
    """A bias as a plain number; minus infinity switches the prefix off."""
    return _bias(name, value, value)


def bias(name: str, value: Any) -> float | tuple[float, ...]:
    """A bias as a plain number, or one a layer; minus infinity switches the prefix off."""
    if isinstance(value, Real):
        return _bias(name, value, value)
    listed = list_argument(name, value, "numbers") if _is_listed(value) else [value]
    return tuple(_bias(name, value, each) for each in listed)


def _float(value: Any) -> float:
    """NaN for what is no number, or too large."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _is_listed(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def _bias(name: str, value: Any, each: Any) -> float:
    # Python's whole numbers stay: a recorded 3 is no 3.0, and signatures depend on it.
    number = _float(each)
    if number < math.inf:
        return operator.index(each) if isinstance(each, Integral) else number
    raise refusal(name, value, "a number or minus infinity, or one a layer")
