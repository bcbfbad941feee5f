"""Dispatched: a model that accelerate has spread over devices, memory and disk.

Its hooks move each block's inputs to the block's device and bring offloaded weights in for a pass;
between passes those stand on the device ``meta``, without values.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def device_map_argument(name: str, value: Any) -> Any:
    """The check of a parameter that says where the parts of a model go."""
    if isinstance(value, dict) and value and all(isinstance(part, str) for part in value):
        return value
    if value in MAPS:
        return value
    raise refusal(name, value, f"one of {', '.join(MAPS)} or a dict from modules to devices")


def refuse_without_accelerate() -> None:
    """Raise InputError where accelerate is missing."""
    if find_spec("accelerate") is None:
        raise InputError("`device_map` needs the package accelerate: pip install accelerate")


def is_dispatched(hf: Module) -> bool:
    """Whether accelerate's hooks run the model."""
    return any(hasattr(module, "_hf_hook") for module in hf.modules())


def input_device(hf: Any) -> torch.device:
    """Where a model takes token ids: the device that its embedding runs on.

    Args:
        hf: a transformers causal LM.

    Returns:
        The device, never ``meta``.
    """
    for hook in _hooks_of(hf.get_input_embeddings()):
        if hook.execution_device is not None:
            return torch.device(hook.execution_device)
    return hf.device


def weights_of(hf: Module) -> Iterator[tuple[str, Tensor]]:
    """All weights by name, those that are offloaded too, each brought in when its turn comes.

    Args:
        hf: a transformers model.

    Yields:
        As ``state_dict()`` names and orders them; on ``meta`` what nobody has the values of.
    """
    is_spread = is_dispatched(hf)
    for name, tensor in hf.state_dict().items():
        yield name, value_of(hf, name) if is_spread else tensor


def value_of(module: Module, name: str) -> Tensor:
    """A weight of a module, with its values where they are offloaded.

    Args:
        module: that holds it, at any depth.
        name: of the weight, such as ``layers.3.mlp.up_proj.weight``.

    Returns:
        The weight; on ``meta`` when nobody has its values.

    Raises:
        InputError: for what accelerate lost, since a weight that it is tied to is elsewhere.
    """
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    tensor = getattr(owner, leaf)
    if not tensor.is_meta and not isinstance(tensor, Parameter):
        return tensor  # buffers stay
    for hook in _hooks_of(owner):
        if hook.weights_map is not None:
            return _held(hook.weights_map, leaf, name).to(tensor.dtype)
    return tensor


def _held(weights: Any, leaf: str, name: str) -> Tensor:
    try:
        return weights[leaf]
    except KeyError as error:
        raise InputError(
            f"{name} is tied to a weight on another device: give both one device in `device_map`"
        ) from error


def offloaded_maps(hf: Module) -> list[Any]:
    """What the hooks hold of weights outside of the modules: a copy of the modules shares it."""
    hooks = [hook for module in hf.modules() for hook in _hooks_of(module)]
    return [held for hook in hooks for held in (hook.weights_map, hook.tied_params_map)]


def bring_back(decoder: Module) -> None:
    """Have a decoder give its states on the device of its inputs, as the whole model does.

    Args:
        decoder: of a model; nothing is done where it is not spread.
    """
    if not is_dispatched(decoder):
        return
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    hook = AlignDevicesHook(io_same_device=True, skip_keys="past_key_values")
    add_hook_to_module(decoder, hook, append=True)


def _hooks_of(module: Module) -> list[Any]:
    """The hooks of accelerate on a module that place weights; they may be nested in a sequence."""
    hook = getattr(module, "_hf_hook", None)
    hooks = getattr(hook, "hooks", [hook])
    return [each for each in hooks if hasattr(each, "weights_map")]
