"""Adapters: a PEFT model becomes a plain one; the user's own stays as it is."""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from kvlens.models.trees import sharing, tensors_of
from kvlens.store.errors import InputError

ROUNDING = {torch.float32: 1e-3}  # largest relative difference that merging may make
COARSE_ROUNDING = 5e-2  # in half precision
PROBE = range(3, 11)  # token ids of a pass before and after


def is_peft(model: Any) -> bool:
    """Whether a model is one of peft's, which is not imported for it."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel | peft.PeftMixedModel)


def has_adapters(model: Module) -> bool:
    """Whether a model has layers of peft inside."""
    return any(_is_adapted(module) for module in model.modules())


def _is_adapted(module: Module) -> bool:
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer)


def merged(model: Any, what: str) -> Any:
    """A plain model with the active adapters of a PEFT model merged into copies of its weights.

    Weights that no adapter changes are shared. What the adapters are trained to later is not seen.

    Args:
        model: a `PeftModel`; it stays as it is.
        what: it is called, in messages.

    Returns:
        The model of transformers, in eval mode, no parameter with gradients.

    Raises:
        InputError: for prompts that were learnt, for quantized weights, and where merging changes
            what the model computes.
    """
    base = model.get_base_model()
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise InputError(f"{what} has learnt prompts, which cannot be merged into the weights")
    if getattr(base, "is_quantized", False):
        raise InputError(
            f"{what} has adapters on quantized weights, into which they do not merge without loss: "
            "load the base model unquantized"
        )
    own = copy.deepcopy(model, sharing(_untouched(model))).eval()
    before = _logits(own)
    is_off = any(module.disable_adapters for module in own.modules() if _is_adapted(module))
    plain = own.unload() if is_off else own.merge_and_unload(safe_merge=True)
    plain = plain.eval().requires_grad_(False)
    _refuse_change(before, _logits(plain), what)
    return plain


def _untouched(model: Module) -> list[Tensor]:
    """The weights that no adapter has a hand in."""
    adapted = [module for module in model.modules() if _is_adapted(module)]
    theirs = {id(tensor) for module in adapted for tensor in tensors_of(module)}
    return [tensor for tensor in tensors_of(model) if id(tensor) not in theirs]


def _logits(model: Any) -> Tensor:
    ids = torch.tensor([list(PROBE)], device=model.get_input_embeddings().weight.device)
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def _refuse_change(before: Tensor, after: Tensor, what: str) -> None:
    difference = float((after - before).abs().max() / before.abs().max())
    if not difference <= ROUNDING.get(before.dtype, COARSE_ROUNDING):
        raise InputError(
            f"merging the adapters of {what} changes what it computes by {difference:.1e}: "
            "kvlens cannot read it"
        )
