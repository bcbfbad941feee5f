"""Raw: the same states from raw transformers, one text at a time.

It shares neither hooks nor batches nor padding with `recording`: it is what recording is held
against.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kvlens.models.attention_call import AttentionCall, states_of
from kvlens.models.forward import is_one_stream
from kvlens.models.language_model import LanguageModel


def raw_states(lm: LanguageModel, ids: Sequence[int]) -> dict[str, Tensor]:
    """One unpadded text through raw transformers.

    Args:
        lm: the model; its blocks' outputs and its attention modules' calls are read by hooks.
        ids: of the text, prompt included.

    Returns:
        Kind and layer, as in ``k.3`` -> the final token's ``hidden`` ``[d_model]``, ``k``,
        ``k_pre`` (not rotated) and ``v`` ``[n_kv_heads, width]``, float32 on the CPU. There is no
        ``hidden`` of a block that gives several streams of them.

    Raises:
        InputError: inside a `with reroute` block, and for a model in train mode.
    """
    states: dict[str, Tensor] = {}

    def on_block(module: Any, args: Any, output: Any, layer: int) -> None:
        hidden = states_of(output)
        if is_one_stream(hidden, lm.info):
            states[f"hidden.{layer}"] = hidden[0, -1].float().cpu()

    def on_call(module: Any, args: Any, kwargs: Any, layer: int) -> None:
        call = AttentionCall.of(module, args, kwargs)
        key, value = call.key_and_value()
        still, _ = call.at("none", None).key_and_value()
        for kind, tensor in (("k", key), ("k_pre", still), ("v", value)):
            states[f"{kind}.{layer}"] = tensor[0, :, -1].float().cpu()

    with torch.inference_mode(), lm.turn("measurement") as turn:
        for layer, block in enumerate(lm.blocks):
            turn.after(block, partial(on_block, layer=layer))
        for layer in lm.anatomy.key_layers:
            hook = partial(on_call, layer=layer)
            turn.before(lm.attention(layer), hook, with_kwargs=True)
        lm.base(torch.tensor([ids], device=lm.device), use_cache=False)
    return states
