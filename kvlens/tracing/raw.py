"""Raw: the same states from raw transformers, one text at a time.

It shares neither hooks nor batches nor rotation with `recording`: it is what recording is held
against.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.models.language_model import LanguageModel
from kvlens.models.rotary import is_rotary, tables


def raw_states(lm: LanguageModel, ids: Sequence[int]) -> dict[str, Tensor]:
    """One unpadded text through raw transformers.

    Args:
        lm: the model; its blocks' outputs are read by hooks, its KV cache as it stands.
        ids: of the text, prompt included.

    Returns:
        The final token's ``hidden`` ``[n_layers, d_model]`` and its ``k`` and ``v``, each
        ``[n_layers, n_kv_heads, d_head]``, float32 on the CPU.

    Raises:
        InputError: inside a `with reroute` block, and for a model in train mode.
    """
    from transformers import DynamicCache

    hidden: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        hidden.append(states[0, -1].float().cpu())

    cache: Any = DynamicCache()  # without the config it keeps every position, in sliding layers too
    with torch.inference_mode(), lm.turn("measurement") as turn:
        for block in lm.blocks:
            turn.after(block, keep)
        lm.base(torch.tensor([ids], device=lm.device), past_key_values=cache, use_cache=True)
    keys = [layer.keys[0, :, -1].float().cpu() for layer in cache.layers]
    values = [layer.values[0, :, -1].float().cpu() for layer in cache.layers]
    return {"hidden": torch.stack(hidden), "k": torch.stack(keys), "v": torch.stack(values)}


def rotate_raw(
    lm: LanguageModel, keys: Float[Tensor, "n_layers n_kv_heads d_head"], position: int
) -> Float[Tensor, "n_layers n_kv_heads d_head"]:
    """Rotate keys with the model's own rotary module and function.

    Args:
        lm: the model; without rotary embeddings the keys stay as they are.
        keys: one a layer, not rotated.
        position: where they stand.

    Returns:
        The rotated keys, float32 on the CPU.
    """
    if not is_rotary(lm):
        return keys
    apply_rotary = importlib.import_module(type(lm.base).__module__).apply_rotary_pos_emb
    positions = torch.tensor([position], device=lm.device)
    rotated = []
    for layer, key in enumerate(keys.to(lm.device)):
        with lm.turn():  # some rotary modules keep what they computed last
            cos, sin = tables(lm, positions, layer)
        heads = key[None, :, None]  # [batch, n_kv_heads, seq_len, d_head]
        _, turned = apply_rotary(heads, heads, cos[:, None], sin[:, None])
        rotated.append(turned[0, :, 0].float().cpu())
    return torch.stack(rotated)
