"""Pooling: final hidden states of a padded batch -> one vector a text. Padding never counts.

d: the model's width, or that of whatever else a method pools.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn.functional import normalize

from kvlens.texts.batches import TokenBatch


def last(hidden: Float[Tensor, "batch seq_len d"], batch: TokenBatch) -> Float[Tensor, "batch d"]:
    """The final real token."""
    return hidden[torch.arange(len(hidden), device=hidden.device), batch.last.to(hidden.device)]


def mean(hidden: Float[Tensor, "batch seq_len d"], batch: TokenBatch) -> Float32[Tensor, "batch d"]:
    """The mean over all real tokens, prompt and BOS included."""
    return mean_over(hidden, batch.mask.bool())


def hybrid(
    hidden: Float[Tensor, "batch seq_len d"], batch: TokenBatch
) -> Float32[Tensor, "batch d"]:
    """``normalize((h_last + mean_i h_i) / 2)`` (arXiv:2601.01046, section 3.4)."""
    return normalize(hybrid_unnormalized(hidden, batch), dim=-1)


def hybrid_unnormalized(
    hidden: Float[Tensor, "batch seq_len d"], batch: TokenBatch
) -> Float32[Tensor, "batch d"]:
    """``(h_last + mean_i h_i) / 2``, for classifiers of a fixed penalty, to which length counts."""
    return (last(hidden, batch).float() + mean(hidden, batch)) / 2


def text_mean(
    hidden: Float[Tensor, "batch seq_len d"], batch: TokenBatch
) -> Float32[Tensor, "batch d"]:
    """The mean over the text itself, without the prompt; the final token where a text is empty."""
    empty = ~batch.text_mask.any(1)
    chosen = batch.text_mask.clone()
    chosen[empty, batch.last[empty]] = True
    return mean_over(hidden, chosen)


def mean_over(
    hidden: Float[Tensor, "batch seq_len d"], chosen: Bool[Tensor, "batch seq_len"]
) -> Float32[Tensor, "batch d"]:
    """The mean over the chosen tokens, at least one a row, added up in float32."""
    # Rows of padding hold garbage, so they are replaced, not multiplied by zero.
    zero = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
    kept = torch.where(chosen[..., None], hidden, zero)
    return kept.float().sum(1) / chosen.sum(1, keepdim=True)


POOLINGS: dict[str, Callable[[Tensor, TokenBatch], Tensor]] = {
    "last": last,
    "mean": mean,
    "hybrid": hybrid,
    "hybrid_unnormalized": hybrid_unnormalized,
    "text_mean": text_mean,
}
