"""Reach: which queries of which heads see a prefix, as further columns of the attention mask."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kvlens.layers.route import Route
from kvlens.rerouting.pass_tokens import PassTokens
from kvlens.store.errors import InputError

Mask = Float[Tensor, "rows 1 seq_len keys"] | Bool[Tensor, "rows 1 seq_len keys"]
Seen = Bool[Tensor, "_ _ seq_len 1"]
"""Which queries see a prefix; rows 1 or the batch, heads 1 or all."""
There = Bool[Tensor, "batch columns"]
"""Which columns each row's prefix has."""


def with_prefix_columns(
    mask: Mask | None,
    bias: float,
    states: Float[Tensor, "batch seq_len d_model"],
    seen: Seen | None = None,
    there: There | None = None,
) -> Float[Tensor, "_ _ seq_len _"]:
    """An additive mask whose first columns hold the bias.

    Args:
        mask: as the attention module is given it; None is causal.
        bias: of the prefix, in each of its columns.
        states: what enters the module.
        seen: by whom the prefix is; None: by all. Heads: all query heads, or 1.
        there: which columns each row has; None: one column.

    Returns:
        The mask with further columns in front; rows: of the batch, or 1.

    Raises:
        InputError: for a mask without a column a token, as fused kernels of their own take it.
    """
    mask = additive_mask(mask, states)
    # A finite floor: rows of padding that see nothing must not turn into NaN.
    lowest = torch.finfo(states.dtype).min
    columns = torch.full_like(mask[..., :1], max(bias, lowest))
    if there is not None:
        columns = torch.where(there[:, None, None].to(mask.device), columns, lowest)
    if seen is not None:
        columns = torch.where(seen.to(mask.device), columns, lowest)
    mask = mask.expand(*columns.shape[:2], -1, -1)
    return torch.cat([columns, mask], dim=-1)


def additive_mask(
    mask: Mask | None, states: Float[Tensor, "batch seq_len d_model"]
) -> Float[Tensor, "rows 1 seq_len seq_len"]:
    """A mask in the form that is added to logits; its arguments are `with_prefix_columns`'."""
    seq_len = states.shape[1]
    if mask is None:
        causal = torch.ones((seq_len, seq_len), dtype=torch.bool, device=states.device).tril()
        mask = causal[None, None]
    if mask.ndim != 4:
        raise InputError(
            "this model's attention function takes no mask of [batch, 1, seq_len, seq_len]: "
            "set `lm.hf.set_attn_implementation` to sdpa or eager"
        )
    if mask.dtype == torch.bool:
        lowest = torch.finfo(states.dtype).min
        zeros = torch.zeros(mask.shape, dtype=states.dtype, device=mask.device)
        mask = zeros.masked_fill_(~mask, lowest)
    return mask[..., :seq_len]


def seen_by(tokens: PassTokens, route: Route, layer: int, n_heads: int) -> Seen | None:
    """Which queries see a layer's prefix.

    Args:
        tokens: of the pass.
        route: through the model.
        layer: of which.
        n_heads: its query heads.

    Returns:
        True where it is seen, rows 1 or the batch, heads 1 or all; None: all see it.

    Raises:
        InputError: where it is not known which tokens are the text's own.
    """
    by_token = _tokens_that_see(tokens, route.control.queries)
    heads = route.control.heads.get(layer)
    if heads is None:
        return by_token
    by_head = torch.zeros(n_heads, dtype=torch.bool, device=tokens.real.device)
    by_head[list(heads)] = True
    by_head = by_head[None, :, None, None]
    return (
        by_head.expand(-1, -1, tokens.real.shape[1], 1) if by_token is None else by_head & by_token
    )


def columns_there(tokens: PassTokens, route: Route) -> There | None:
    """Which columns each row's prefix has; None: one, of whatever source.

    A text with fewer tokens than there are columns has one for each of them.
    """
    if route.control.source != "probe":
        return None
    ranked = tokens.ranked
    return torch.arange(route.control.columns, device=ranked.device) < ranked.sum(1)[:, None]


def _tokens_that_see(tokens: PassTokens, queries: str) -> Bool[Tensor, "batch 1 seq_len 1"] | None:
    if queries == "all":
        return None
    if queries == "text":
        sees = tokens.known_text()
    elif queries == "prompt":
        sees = ~tokens.known_text()
    else:
        places = torch.arange(tokens.real.shape[1], device=tokens.first.device)
        sees = places != tokens.first[:, None]
    return sees[:, None, :, None]
