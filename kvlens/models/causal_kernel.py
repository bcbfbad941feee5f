"""Causal kernel: fused attention of whole rows that also tells the log-sum-exp of its logits.

torch has such kernels, and does not offer them by a function of its own: they are the ones that
`scaled_dot_product_attention` calls.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from kvlens.models.anatomy import LayerAnatomy

WIDEST_FLASH = 256  # of a head, on CUDA
ALIGNED = 8  # bytes that a head's width has to fill on CUDA: a multiple of so many numbers
HALVES = (torch.float16, torch.bfloat16)


class Attention(NamedTuple):
    """What came out of causal attention.

    Attributes:
        output: weighted values.
        log_sum_exp: of each query's scaled logits.
    """

    output: Float[Tensor, "batch n_heads seq_len d_value"]
    log_sum_exp: Float32[Tensor, "batch n_heads seq_len"]


def has_kernel(layer: LayerAnatomy, states: Float[Tensor, "batch seq_len d_model"]) -> bool:
    """Whether a layer's attention is one that such a kernel computes.

    Args:
        layer: whose.
        states: what enters its module.
    """
    if layer.d_key != layer.d_value or layer.sink or layer.soft_cap is not None:
        return False
    if states.dtype not in (torch.float32, *HALVES):
        return False
    if states.device.type == "cpu":
        return True
    fits = layer.d_key % ALIGNED == 0 and layer.d_key <= WIDEST_FLASH
    return states.device.type == "cuda" and torch.version.cuda is not None and fits


def causal_attention(
    query: Float[Tensor, "batch n_heads seq_len d_key"],
    key: Float[Tensor, "batch n_kv_heads seq_len d_key"],
    value: Float[Tensor, "batch n_kv_heads seq_len d_value"],
    scaling: float,
) -> Attention:
    """Causal attention without a mask, in memory that grows with the length alone.

    Args:
        query: rotated.
        key: rotated; heads are shared as in grouped-query attention.
        value: as wide as keys.
        scaling: of the logits.

    Returns:
        The output in the dtype of the query, and the log-sum-exp.
    """
    kernels = torch.ops.aten
    if query.device.type == "cpu":
        found = kernels._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, True, scale=scaling
        )
        return Attention(*found)
    key, value = _of_each_query(key, query), _of_each_query(value, query)
    if query.dtype in HALVES:
        found = kernels._scaled_dot_product_flash_attention(
            query, key, value, 0.0, True, scale=scaling
        )
    else:
        found = kernels._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, True, scale=scaling
        )
    # It may be longer than the rows, whose last block it fills.
    return Attention(found[0], found[1][..., : query.shape[2]].float())


def _of_each_query(states: Tensor, query: Tensor) -> Tensor:
    """Keys or values, repeated for the query heads that share them."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)
