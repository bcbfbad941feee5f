"""Axes: every function that says the axes of its tensors is checked by each test that calls it."""

import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import get_args
from unittest.mock import patch

import jaxtyping
from jaxtyping import AbstractArray, AbstractDtype, install_import_hook, jaxtyped

# beartype looks at one element of a long list, and draws which. It gets a generator of its own,
# since tests watch that nothing of kvlens draws from Python's.
with patch("random.getrandbits", random.Random(0).getrandbits):
    from beartype import BeartypeConf, beartype

PACKAGE = Path(__file__).parents[1] / "kvlens"
# Here plain arguments of a wrong type are refused by an `InputError`, which the tests look for.
BY_HAND = {
    "kvlens.embedding.encoder",
    "kvlens.embedding.file_run",
    "kvlens.layers.shape",
    "kvlens.methods.aligned_wva",
    "kvlens.methods.base",
    "kvlens.methods.kv_embedding",
    "kvlens.methods.value_aggregation",
}
NAME = re.compile(r"\w+")
DRAWING = ("kvlens.plots.", "kvlens.reporting.")  # their types are matplotlib's and pydantic's


def modules_with_axes() -> list[str]:
    """Every module of kvlens that says the axes of a tensor."""
    files = [path for path in PACKAGE.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    return sorted(name for name in set(names) - BY_HAND if not name.startswith(DRAWING))


checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def says_axes(meaning: object) -> bool:
    """Whether a type, or a part of it, says the axes of a tensor."""
    if isinstance(meaning, type) and issubclass(meaning, (AbstractArray, AbstractDtype)):
        return True
    return any(says_axes(part) for part in get_args(meaning))


def names_axes(function: FunctionType) -> bool:
    """Whether an annotation, or a name in one that is a string, says axes."""
    known = function.__globals__
    for annotation in function.__annotations__.values():
        is_text = isinstance(annotation, str)
        meanings = map(known.get, NAME.findall(annotation)) if is_text else [annotation]
        if any(map(says_axes, meanings)):
            return True
    return False


def with_checked_types(function: Callable, typechecker: Callable) -> Callable:
    """As `jaxtyped`, which remembers axes at every call: dear where none are said."""
    if isinstance(function, FunctionType) and not names_axes(function):
        return typechecker(function)
    return jaxtyped(function, typechecker=typechecker)


def check_axes() -> None:
    """From now on imports of these modules check axes and dtypes at every call."""
    jaxtyping.jaxtyped = lambda *, typechecker: partial(with_checked_types, typechecker=typechecker)
    install_import_hook(modules_with_axes(), "axes.checked")
