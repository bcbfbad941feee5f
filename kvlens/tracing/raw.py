"""Raw: the same states from raw transformers, one text at a time."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from kvlens.models.language_model import LanguageModel
from kvlens.models.rotary import is_rotary, tables


def raw_states(lm: LanguageModel, ids: Sequence[int]) -> dict[str, torch.Tensor]:
    """One unpadded text through raw transformers: the final token's float32 ``hidden`` [L, d_model], ``k``, ``v``
    [L, n_kv_heads, d_head] of every layer."""
    from transformers import DynamicCache

    hidden: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        hidden.append(states[0, -1].float().cpu())

    cache: Any = DynamicCache()  # without the config it keeps every position, in sliding layers too
    handles = [block.register_forward_hook(keep) for block in lm.blocks]
    try:
        with torch.inference_mode():
            lm.base(torch.tensor([ids], device=lm.device), past_key_values=cache, use_cache=True)
    finally:
        for handle in handles:
            handle.remove()
    keys = torch.stack([layer.keys[0, :, -1].float().cpu() for layer in cache.layers])
    values = torch.stack([layer.values[0, :, -1].float().cpu() for layer in cache.layers])
    return {"hidden": torch.stack(hidden), "k": keys, "v": values}


def rotate_raw(lm: LanguageModel, keys: torch.Tensor, position: int) -> torch.Tensor:
    """Rotate keys [L, n_kv_heads, d_head] to `position` with the model's own rotary module and function."""
    if not is_rotary(lm):
        return keys
    apply = importlib.import_module(type(lm.hf).__module__).apply_rotary_pos_emb
    where = torch.tensor([position], device=lm.device)
    result = []
    for layer, key in enumerate(keys.to(lm.device)):
        cos, sin = (table[:, None] for table in tables(lm, where, layer))
        heads = key[None, :, None]
        result.append(apply(heads, heads, cos, sin)[1][0, :, 0].float().cpu())
    return torch.stack(result)
