"""Tensor facts: what a trace holds, in words."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kvlens.tracing.kinds import kind_of


def tensor_facts(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name -> type, shape and size; those of one kind that has a tensor a layer together.

    Args:
        tensors: by name, with or without memory.
    """
    facts: dict[str, str] = {}
    for name, tensor in tensors.items():
        kind = kind_of(name)
        if kind == name:
            megabytes = tensor.nbytes / 1e6
            facts[name] = f"{tensor.dtype} {list(tensor.shape)}, {megabytes:.1f} MB"
        else:
            of_layers = [each for other, each in tensors.items() if kind_of(other) == kind]
            facts[kind] = _fact_of_layers(of_layers)
    return facts


def _fact_of_layers(tensors: list[Tensor]) -> str:
    """A kind that has a tensor a layer, in words."""
    megabytes = sum(tensor.nbytes for tensor in tensors) / 1e6
    shapes = " or ".join(dict.fromkeys(str(list(tensor.shape)) for tensor in tensors))
    return f"{tensors[0].dtype}, a tensor a layer, {shapes}, {megabytes:.1f} MB"
