"""In memory: a model that its user has loaded already, seen through a tree of its own.

The user's model stays as it is: in train mode, with its gradients, under its container.
"""

from __future__ import annotations

import functools
from typing import Any

from torch.nn import Module
from torch.nn.parallel import DataParallel, DistributedDataParallel

from kvlens.models.adapters import has_adapters, is_peft, merged
from kvlens.models.dispatched import weights_of
from kvlens.models.quantized import keep_layout
from kvlens.models.trees import tree_over
from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError, shortened

HARMLESS = ("transformers.", "accelerate.", "torch.")  # whose hooks leave a plain pass as it is
SHARDED = ("DTensor", "FlatParameter")


def view_of(model: Any, what: str) -> Any:
    """A plain causal LM over the weights of a user's model.

    Containers (`torch.compile`, `DataParallel`) are looked through; a PEFT model's adapters are
    merged into copies of the weights that they change. All other weights are shared.

    Args:
        model: as the user has it.
        what: it is called, in messages.

    Returns:
        A transformers model in eval mode, no parameter with gradients; what it is made from stays
        as it is.

    Raises:
        InputError: for what is no model of transformers, and for hooks of the user's, compiled or
            sharded parts and weights without values: what runs would not be what was given.
    """
    from transformers import PreTrainedModel

    inner = _without_containers(model)
    plain = inner.get_base_model() if is_peft(inner) else inner
    if not isinstance(plain, PreTrainedModel):
        raise refusal("model", plain, "a causal LM of transformers")
    if plain.get_output_embeddings() is None:
        raise InputError(f"{what} has no language model head: give the causal LM around it")
    _refuse_parts(plain, what)
    if is_peft(inner):
        return merged(inner, what)
    if has_adapters(plain):
        raise InputError(f"{what} has adapters inside: merge them, or give the `PeftModel`")
    view = tree_over(plain).eval()
    keep_layout(view)
    return view


def _without_containers(model: Any) -> Any:
    """What `torch.compile` and the data-parallel containers were given."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif _is_compiled(model):
            model = model._orig_mod
        else:
            return model


def _is_compiled(module: Any) -> bool:
    return "_orig_mod" in getattr(module, "_modules", ())


def _refuse_parts(hf: Module, what: str) -> None:
    """Refuse what a plain pass would not show, or hooks of kvlens would not see."""
    for name, module in hf.named_modules():
        place = f"{what}: {name}" if name else what
        if _is_compiled(module) or module._compiled_call_impl is not None:
            raise InputError(f"{place} is compiled in place: give the model as it was before")
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        foreign = [hook for hook in map(_whose, hooks) if not hook.startswith(HARMLESS)]
        if foreign:
            raise InputError(
                shortened(
                    f"{place} has a forward hook ({foreign[0]}), which would be in every result: "
                    "take it off by its handle's `remove()`"
                )
            )
    for name, parameter in weights_of(hf):
        if type(parameter).__name__ in SHARDED:
            raise InputError(f"{what}: {name} is sharded over processes: gather the model first")
        if parameter.is_meta:
            raise InputError(f"{what}: {name} has no values (device `meta`): load its weights")


def _whose(hook: Any) -> str:
    """Module and name of a function that is a hook."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    named = hook if hasattr(hook, "__qualname__") else type(hook)
    return f"{named.__module__}.{named.__qualname__}"
