"""Rotary position embedding: a model's own tables at given positions, applied or undone on chosen tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel


def is_rotary(lm: LanguageModel) -> bool:
    """Whether the model's config describes rotary position embeddings."""
    config = lm.hf.config.get_text_config()
    return any(
        getattr(config, name, None) for name in ("rope_parameters", "rope_theta", "rotary_dim")
    )


def tables(
    lm: LanguageModel, positions: torch.Tensor, layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cosines and sines ``[batch, rotary_dim]`` of one layer at `positions` ``[batch]``."""
    module = lm.base.rotary_emb
    kinds = getattr(lm.hf.config.get_text_config(), "layer_types", None) or []
    # Gemma 3 keeps one table per kind of layer.
    kind = (kinds[layer],) if kinds and getattr(module, "layer_types", None) else ()
    like = torch.empty(0, dtype=torch.float32, device=positions.device)
    cos, sin = module(like, positions[:, None], *kind)
    return cos[:, 0], sin[:, 0]


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate (rotate-half form), partially when `cos` is narrower than the head.

    states ``[batch, heads, d_head]``; cos, sin ``[batch, rotary_dim]``. Transposed rotation: pass ``-sin``.
    """
    width = cos.shape[-1]
    turned, rest = states[..., :width], states[..., width:]
    first, second = turned.chunk(2, dim=-1)
    turned = turned * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]
    return torch.cat([turned, rest], dim=-1)


def unrotate(
    states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Undo `rotate`: the states before it, and those rotated to position 0 instead.

    The two differ only where the model scales its tables (YaRN, long RoPE), since rotating by 0 changes nothing.
    """
    squared = (cos * cos + sin * sin)[:, :1]
    before = rotate(states, cos / squared, -sin / squared)
    scale = squared.sqrt()[:, None].expand_as(before[..., : cos.shape[-1]])
    at_zero = torch.cat(
        [before[..., : cos.shape[-1]] * scale, before[..., cos.shape[-1] :]], dim=-1
    )
    return before, at_zero
