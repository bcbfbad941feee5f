"""Registered: anatomies of private architectures, which packages of their own bring.

A package names a function for a `model_type` among its entry points::

    [project.entry-points."kvlens.anatomies"]
    my_model = "my_package.anatomy:anatomy_of"

It takes the transformers model and gives its `Anatomy`. Importing it may register the model's
classes with transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from kvlens.models.anatomy import Anatomy, blocks_of, decoder_of
from kvlens.models.dissection import dissect
from kvlens.models.refusing import refusing
from kvlens.store.errors import InputError

GROUP = "kvlens.anatomies"


def registered_for(model_type: Any) -> Callable[[Any], Anatomy] | None:
    """The function that a package registers for an architecture, imported.

    Args:
        model_type: as the config names it.

    Returns:
        The function; None where there is none.

    Raises:
        InputError: when it cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == model_type:
            with refusing(f"cannot import {entry.value}, registered for {model_type}"):
                return entry.load()
    return None


def anatomy_of(hf: Any, name: str) -> Anatomy:
    """A model's anatomy: as a package tells it, else as it is found.

    Args:
        hf: a transformers causal LM in eval mode.
        name: of the model, for messages.

    Returns:
        Its blocks.

    Raises:
        InputError: as `dissect`; for a registered function that fails or tells of other blocks.
    """
    tell = registered_for(hf.config.model_type)
    if tell is None:
        return dissect(hf, name)
    what = f"the anatomy registered for {hf.config.model_type}"
    with refusing(what):
        anatomy = tell(hf)
    n_blocks = len(blocks_of(decoder_of(hf), type(hf).__name__))
    if not isinstance(anatomy, Anatomy):
        raise InputError(f"{what} is a {type(anatomy).__name__}, no `Anatomy`")
    if [each.layer for each in anatomy.layers] != list(range(n_blocks)):
        raise InputError(f"{what} does not tell of the {n_blocks} blocks of {name} in their order")
    if not anatomy.key_layers:
        raise InputError(f"{what} has no block with keys: there is nothing to read in {name}")
    return anatomy
