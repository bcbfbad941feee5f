"""Causal kernel: fused attention of whole rows that also tells the log-sum-exp of its logits.

torch has such kernels, and does not offer them by a function of its own: they are the ones that
`scaled_dot_product_attention` calls.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from kvlens.models.anatomy import LayerAnatomy

WIDEST_FLASH = 256  # of a head, on CUDA
ALIGNED = 8  # bytes that a head's width has to fill on CUDA: a multiple of so many numbers
HALVES = (torch.float16, torch.bfloat16)
AMPERE = (8, 0)

Kernel = Literal["cpu", "flash", "efficient"]
"""Of the CPU; flash and memory-efficient attention on CUDA."""


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


def kernel_of(query: Float[Tensor, "batch n_heads seq_len d_key"]) -> Kernel:
    """The kernel for a query's device and dtype: flash takes half precision, from Ampere on."""
    if query.device.type == "cpu":
        return "cpu"
    is_half = query.dtype in HALVES
    return "flash" if is_half and _runs_flash(query.device) else "efficient"


@functools.cache
def _runs_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= AMPERE


def causal_attention(
    query: Float[Tensor, "batch n_heads seq_len d_key"],
    key: Float[Tensor, "batch n_kv_heads seq_len d_key"],
    value: Float[Tensor, "batch n_kv_heads seq_len d_value"],
    scaling: float,
    kernel: Kernel | None = None,
) -> Attention:
    """Causal attention without a mask, in memory that grows with the length alone.

    Args:
        query: rotated.
        key: rotated; heads are shared as in grouped-query attention.
        value: as wide as keys.
        scaling: of the logits.
        kernel: None: that of `kernel_of`.

    Returns:
        The output in the dtype of the query, and the log-sum-exp.
    """
    kernel = kernel or kernel_of(query)
    if kernel != "cpu":
        key, value = _of_each_query(key, query), _of_each_query(value, query)
    output, log_sum_exp = KERNELS[kernel](query, key, value, scaling)[:2]
    # It may be longer than the rows, whose last block it fills.
    return Attention(output, log_sum_exp[..., : query.shape[2]].float())


def _on_cpu(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, ...]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, True, scale=scaling
    )


def _flash(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, ...]:
    return torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, True, scale=scaling
    )


def _efficient(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, ...]:
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, True, scale=scaling
    )


KERNELS = {"cpu": _on_cpu, "flash": _flash, "efficient": _efficient}


def _of_each_query(states: Tensor, query: Tensor) -> Tensor:
    """Keys or values, repeated for the query heads that share them."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)
