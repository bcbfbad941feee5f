"""Anatomy: where a transformers model keeps its decoder, its blocks and their attention.

It is found from the modules, not from the model's name.
"""

from __future__ import annotations

from typing import Any

from torch.nn import Module, ModuleList

from kvlens.store.errors import InputError

ATTENTION_NAMES = ("self_attn", "attn", "attention")


def decoder_of(hf: Any) -> Any:
    """The decoder of a causal LM: its blocks between embedding and final norm, no LM head.

    Args:
        hf: a transformers causal LM, or the tree of a bridge over one.

    Returns:
        The module; of a model with more than one tower it is the text's.
    """
    decoder = hf.get_decoder()
    while hasattr(decoder, "lm_head"):  # Llama 4's wrapper gives a causal LM
        decoder = decoder.base_model if decoder.base_model is not decoder else decoder.model
    return decoder


def blocks_of(decoder: Module, architecture: str) -> ModuleList:
    """The decoder blocks, in order.

    Args:
        decoder: as `decoder_of` finds it.
        architecture: for the message.

    Returns:
        The one list of modules that the decoder has.

    Raises:
        InputError: when it has none, or several.
    """
    lists = [child for child in decoder.children() if isinstance(child, ModuleList)]
    if len(lists) != 1:
        raise InputError(
            f"{architecture} has no single list of decoder blocks: load its text model alone"
        )
    return lists[0]


def attention_of(block: Module) -> Any:
    """The attention module of one decoder block.

    Args:
        block: as in `blocks_of`.

    Returns:
        What it holds under the first of `ATTENTION_NAMES`.

    Raises:
        InputError: when it has none of them.
    """
    for name in ATTENTION_NAMES:
        if hasattr(block, name):
            return getattr(block, name)
    raise InputError(f"a {type(block).__name__} has no attention module that kvlens knows")
