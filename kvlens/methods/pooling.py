"""Pooling: final hidden states of a padded batch -> one vector a text. Padding never counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from kvlens.texts.tokens import TokenBatch


def last(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The final real token: ``[batch, seq_len, d]`` -> ``[batch, d]``."""
    return hidden[torch.arange(len(hidden), device=hidden.device), batch.last]


def _mean(hidden: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    # Rows of padding hold garbage, so they are replaced, not multiplied by zero.
    kept = torch.where(
        where[..., None], hidden, torch.zeros((), dtype=hidden.dtype, device=hidden.device)
    )
    return kept.float().sum(1) / where.sum(1, keepdim=True)


def mean(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The mean over all real tokens, prompt and BOS included."""
    return _mean(hidden, batch.mask.bool())


def hybrid(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """``normalize((h_last + mean_i h_i) / 2)`` (arXiv:2601.01046, section 3.4)."""
    return normalize((last(hidden, batch).float() + mean(hidden, batch)) / 2, dim=-1)


def text_mean(hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The mean over the text's own tokens, without the prompt; the final token where the text has none."""
    empty = ~batch.text_mask.any(1)
    where = batch.text_mask.clone()
    where[empty, batch.last[empty]] = True
    return _mean(hidden, where)


POOLINGS: dict[str, Callable[[torch.Tensor, TokenBatch], torch.Tensor]] = {
    "last": last,
    "mean": mean,
    "hybrid": hybrid,
    "text_mean": text_mean,
}
