"""Trees: deep copies of a model's modules over the same weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.nn import Module, Parameter

from kvlens.models.dispatched import offloaded_maps


def tree_over(hf: Any) -> Any:
    """A deep copy of the modules over the SAME weights, none of them with gradients.

    Args:
        hf: any module; it stays as it is.

    Returns:
        The copy.
    """
    return copy.deepcopy(hf, sharing(tensors_of(hf)) | unchanged(offloaded_maps(hf)))


def tensors_of(module: Module) -> list[Tensor]:
    """All parameters and buffers."""
    return [*module.parameters(), *module.buffers()]


def sharing(tensors: Iterable[Tensor]) -> dict[int, Any]:
    """The memo of a deep copy that copies none of these tensors.

    Args:
        tensors: of a module; one that takes gradients has in the copy another over its memory.

    Returns:
        What `copy.deepcopy` takes as its memo.
    """
    return {id(tensor): _without_grad(tensor) for tensor in tensors}


def unchanged(things: Iterable[Any]) -> dict[int, Any]:
    """The memo of a deep copy that has these very things."""
    return {id(thing): thing for thing in things}


def _without_grad(tensor: Tensor) -> Tensor:
    return Parameter(tensor.data, requires_grad=False) if tensor.requires_grad else tensor
