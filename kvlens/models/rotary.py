"""Rotary position embedding: a model's own tables, applied to chosen tokens or undone on them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvlens.models.language_model import LanguageModel

CONFIG_FIELDS = ("rope_parameters", "rope_theta", "rotary_dim")


def is_rotary(lm: LanguageModel) -> bool:
    """Whether the model's config describes rotary position embeddings."""
    config = lm.hf.config.get_text_config()
    return any(getattr(config, name, None) for name in CONFIG_FIELDS)


def tables(
    lm: LanguageModel, positions: Int[Tensor, " batch"], layer: int
) -> tuple[Float[Tensor, "batch rotary_dim"], Float[Tensor, "batch rotary_dim"]]:
    """The cosines and sines of one layer, from the model's own rotary module.

    Args:
        lm: a rotary model.
        positions: one a row.
        layer: some models have one table per kind of layer.

    Returns:
        Cosines and sines, float32, with the model's scaling (YaRN, long RoPE) in them.
    """
    module = lm.base.rotary_emb
    like = torch.empty(0, dtype=torch.float32, device=positions.device)
    cos, sin = module(like, positions[:, None], *_kind_of_layer(lm, module, layer))
    return cos[:, 0], sin[:, 0]


def _kind_of_layer(lm: LanguageModel, module: Any, layer: int) -> tuple[str, ...]:
    """The further argument of a rotary module that has a table per kind of layer, as Gemma 3's."""
    kinds = getattr(lm.hf.config.get_text_config(), "layer_types", None)
    if kinds and getattr(module, "layer_types", None):
        return (kinds[layer],)
    return ()


def rotate(
    states: Float[Tensor, "batch heads d_head"],
    cos: Float[Tensor, "batch rotary_dim"],
    sin: Float[Tensor, "batch rotary_dim"],
) -> Float[Tensor, "batch heads d_head"]:
    """Rotate in the rotate-half form.

    Not by the models' own `apply_rotary_pos_emb`, which takes whole sequences and query and key
    at once; `tracing.raw` compares with it.

    Args:
        states: queries or keys.
        cos: cosines; where they are narrower than the head, the rest of it is not rotated.
        sin: sines; ``-sin`` gives the transposed rotation.

    Returns:
        The rotated states.
    """
    width = cos.shape[-1]
    turned = states[..., :width]
    first, second = turned.chunk(2, dim=-1)
    quarter_turn = torch.cat([-second, first], dim=-1)
    turned = turned * cos[:, None] + quarter_turn * sin[:, None]
    return torch.cat([turned, states[..., width:]], dim=-1)


def unrotate(
    states: Float[Tensor, "batch heads d_head"],
    cos: Float[Tensor, "batch rotary_dim"],
    sin: Float[Tensor, "batch rotary_dim"],
) -> tuple[Float[Tensor, "batch heads d_head"], Float[Tensor, "batch heads d_head"]]:
    """Undo `rotate`.

    Args:
        states: what `rotate` gave.
        cos: the cosines that it took.
        sin: the sines that it took.

    Returns:
        The states before it, and those rotated to position 0 instead. The two differ only where
        the model scales its tables (YaRN, long RoPE), since rotating by 0 changes nothing.
    """
    squared = (cos * cos + sin * sin)[:, :1]
    before = rotate(states, cos / squared, -sin / squared)
    width = cos.shape[-1]
    scale = squared.sqrt()[:, None]
    at_zero = torch.cat([before[..., :width] * scale, before[..., width:]], dim=-1)
    return before, at_zero
