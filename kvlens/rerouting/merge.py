"""Merge: a prefix joined to what a fused causal kernel gives, at the cost of a product a query.

With the log-sum-exp `l` of a query's causal logits and the prefix's logit `p = q.k + bias`, the
prefix has the weight `sigmoid(p - l)`, and all others share the rest as before (the uptake
identity; it holds for several columns by their own log-sum-exp). So nothing of seq_len x seq_len
is made, and the kernel stays the fused one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from kvlens.models.anatomy import LayerAnatomy
from kvlens.models.attention_call import AttentionCall
from kvlens.models.causal_kernel import Attention, causal_attention, has_kernel
from kvlens.rerouting.content import CacheStates, Prefix
from kvlens.rerouting.reach import Seen, There
from kvlens.store.errors import InputError

MERGING = "kvlens_merging"
"""Name of the attention function that joins the prefix."""
WINDOWLESS = "sdpa"
"""The attention function that is given a mask wherever a window hides a token."""

States = Float[Tensor, "batch _ seq_len _"]
KeyStates = Float[Tensor, "batch _ keys _"]


@dataclass(frozen=True)
class Merge:
    """What one attention module joins in one call.

    Attributes:
        prefix: keys and values of the call -> those of the prefix, ``[batch, heads, columns, d]``.
        bias: added to the prefix's logits.
        seen: by which queries, see `kvlens.rerouting.reach.seen_by`.
        there: which columns, see `kvlens.rerouting.reach.columns_there`.
    """

    prefix: Callable[[CacheStates, CacheStates], tuple[Prefix, Prefix]]
    bias: float
    seen: Seen | None
    there: There | None


_MERGES: WeakKeyDictionary[Any, Merge] = WeakKeyDictionary()
"""Attention module -> what it is to join in the call that runs."""
_OWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Attention module that has `MERGING` now -> the name of its own attention function."""


def can_merge(call: AttentionCall, layer: LayerAnatomy) -> bool:
    """Whether a call attends causally over whole rows, by a kernel that tells the log-sum-exp.

    Args:
        call: of an attention module that meets what it caches.
        layer: what the module is.
    """
    own = getattr(getattr(call.module, "config", None), "_attn_implementation", "")
    if call.arguments.get("attention_mask") is not None or own == "eager":
        return False
    if layer.kind != "full" and own != WINDOWLESS:
        return False
    if not getattr(call.module, "is_causal", True):
        return False
    # The log-sum-exp of these kernels has no gradient.
    needs_gradient = torch.is_grad_enabled() and call.states.requires_grad
    return not needs_gradient and has_kernel(layer, call.states)


def begin(module: Any, merge: Merge) -> None:
    """Let an attention module join a prefix when it attends next, until `end`.

    Args:
        module: of the raw model.
        merge: what it joins.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(MERGING, _attend)
    _MERGES[module] = merge
    _OWN[module] = module.config._attn_implementation
    module.config._attn_implementation = MERGING


def end(module: Any) -> None:
    """Give an attention module its own attention function back, if it has another.

    Args:
        module: of the raw model.
    """
    _MERGES.pop(module, None)
    own = _OWN.pop(module, None)
    if own is not None:
        module.config._attn_implementation = own


def _attend(
    module: Any,
    query: States,
    key: KeyStates,
    value: KeyStates,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "batch seq_len n_heads d_value"], Any]:
    """An attention function as transformers calls it."""
    merge = _MERGES.pop(module, None)
    if merge is None:  # a hook calls the module once more
        return _own_function(module)(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    if key.shape[2] != query.shape[2]:
        raise InputError(
            "re-routing works on whole texts in one forward pass, not on a filled KV cache"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    plain = causal_attention(query, key, value, scaling)
    prefix_key, prefix_value = merge.prefix(key, value)
    logits = scaling * _products(query, prefix_key) + merge.bias
    joined = merged(plain, _visible(logits, merge), prefix_value)
    return joined.transpose(1, 2).contiguous(), None


def _own_function(module: Any) -> Callable[..., Any]:
    from transformers import AttentionInterface

    return AttentionInterface()[_OWN[module]]


def _products(query: States, key: Prefix) -> Float32[Tensor, "batch n_heads seq_len columns"]:
    """Each query's products with the prefix's keys."""
    by_group = query.unflatten(1, (key.shape[1], -1)).float()
    return (by_group @ key.float().transpose(-1, -2)[:, :, None]).flatten(1, 2)


def _visible(
    logits: Float32[Tensor, "batch n_heads seq_len columns"], merge: Merge
) -> Float32[Tensor, "batch n_heads seq_len columns"]:
    """The logits, minus infinity where a column is not there, or not seen."""
    if merge.there is not None:
        logits = logits.masked_fill(~merge.there[:, None, None].to(logits.device), -torch.inf)
    if merge.seen is not None:
        logits = logits.masked_fill(~merge.seen.to(logits.device), -torch.inf)
    return logits


def merged(
    plain: Attention,
    logits: Float32[Tensor, "batch n_heads seq_len columns"],
    value: Prefix,
) -> States:
    """The output of attention over a prefix and the causal tokens.

    Args:
        plain: of the causal tokens alone.
        logits: of the prefix's columns.
        value: theirs, ``[batch, n_kv_heads, columns, d_value]``.

    Returns:
        The output, in the dtype of the plain one.
    """
    own = plain.log_sum_exp[..., None]
    total = torch.logaddexp(own, logits.logsumexp(-1, keepdim=True))
    weights = (logits - total).exp().unflatten(1, (value.shape[1], -1))
    carried = (weights @ value.float()[:, :, None]).flatten(1, 2)
    return (plain.output * (own - total).exp() + carried).to(plain.output.dtype)
