"""Registry: the methods by name; each is one file of this folder, and is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import kvlens.methods
from kvlens.methods.base import PREPARE, Method
from kvlens.store.errors import InputError


def methods() -> dict[str, type[Method]]:
    """Every method by name, alphabetically: each class below `Method` that sets its own name."""
    for module in pkgutil.iter_modules(kvlens.methods.__path__):
        importlib.import_module(f"kvlens.methods.{module.name}")
    named = {cls.name: cls for cls in _subclasses(Method) if "name" in vars(cls)}
    return dict(sorted(named.items()))


def self_contained() -> dict[str, type[Method]]:
    """The methods that need no calibration states: what ``all`` stands for."""
    return {name: cls for name, cls in methods().items() if not cls.needs_calibration}


def _subclasses(cls: type[Method]) -> Iterator[type[Method]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def takes_layers(name: str) -> bool:
    """Whether the named method re-routes layers that are handed to it; an unknown one does not."""
    known = methods()
    return name in known and known[name].takes_layers


def get_method(name: str, **settings: Any) -> Method:
    """The named method.

    Args:
        name: one of `methods`.
        **settings: its fields; each has a default. And `prepare`: whether both prompts prepare the
            texts, see `kvlens.texts.preparation`; default: as each prompt says.

    Returns:
        The method, not yet for a model (see `Method.for_model`).

    Raises:
        InputError: for an unknown name or setting.
    """
    known = methods()
    if name not in known:
        raise InputError(f"unknown method {name!r}: give one of {', '.join(known)}")
    prepare = settings.pop(PREPARE, None)
    try:
        method = known[name](**settings)
    except TypeError as error:
        problem = str(error).split("() ")[-1]
        allowed = ", ".join([*(field.name for field in fields(known[name])), PREPARE])
        raise InputError(f"{name}: {problem}; its settings are {allowed}") from error
    return method if prepare is None else method.preparing(prepare)
