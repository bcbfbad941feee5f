"""Probe query: which tokens of a text are asked for by the tokens whose queries stand out most.

After ActQKV (arXiv:2502.13542), which builds one query from a window's most active tokens in order
to fetch keys of a long cache. Here the window is the text, and its highest-ranked tokens become the
columns of a prefix. Of one layer and one KV head, in the pass that is re-routed, at that layer:

1. The queries of the KV head's query heads are laid side by side, one vector ``q_i`` a token.
2. The activation bias of token i is the mean over dimensions of
   ``(q_i - m)^2 / (s + mean(s) / 100)``, with mean m and variance s over the tokens.
3. The probe query is the mean of all ``q_i``, weighted by activation bias.
4. A token's rank is its key's dot product with the probe query, summed over the query heads.

Queries and keys are taken before their rotation, so that the ranking is one of content: a mean of
queries stands at no place. Position 0, whose key draws attention in any text, is neither weighed
nor ranked, unless it is all there is; ActQKV's code, too, keeps a context's first tokens apart.

What differs from ActQKV: tokens are ranked and not blocks, by the dot product that attention takes
and not by cosine; mean and variance are this text's own and no running ones over texts, so that a
batch does not matter; the number of tokens is fixed and not cut by the layer's entropy; and what
is fetched is shown to every query by the route's bias, in place of decoding with it.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvlens.models.attention_call import AttentionCall
from kvlens.store.errors import InputError

DAMPING = 100  # the share of the mean variance that is added to each dimension's own
TIE = 1e-5  # of the largest score: what float32 may round away

Queries = Float[Tensor, "batch n_heads seq_len d_key"]
Keys = Float[Tensor, "batch n_kv_heads seq_len d_key"]


def ranking(
    call: AttentionCall, ranked: Bool[Tensor, "batch seq_len"], n: int
) -> Int[Tensor, "batch n_kv_heads n"] | None:
    """The tokens that a probe query ranks highest in one call of an attention module.

    Args:
        call: of all tokens.
        ranked: those that take part.
        n: how many.

    Returns:
        As `highest`; None for a module that calls no attention function.
    """
    still = call.at("none", None).attended()
    if still is None or still.query is None:
        return None
    return highest(still.query, still.key, ranked.to(still.key.device), n)


def highest(
    queries: Queries, keys: Keys, ranked: Bool[Tensor, "batch seq_len"], n: int
) -> Int[Tensor, "batch n_kv_heads n"]:
    """The tokens that each KV head's probe query ranks highest.

    Args:
        queries: not rotated.
        keys: not rotated.
        ranked: the tokens that take part.
        n: how many.

    Returns:
        Their places, the first one highest, and of equal ones the earlier; of a row with fewer
        tokens than `n`, tokens that do not take part come last.
    """
    grouped = queries.float().unflatten(1, (keys.shape[1], -1))
    side_by_side = grouped.transpose(2, 3).flatten(3)
    bias = activation_bias(side_by_side, ranked)
    total = bias.sum(-1, keepdim=True)
    # Queries that are all alike have no bias: each counts the same.
    weights = torch.where(total > 0, bias, ranked[:, None].to(bias))
    weights = weights / weights.sum(-1, keepdim=True)
    probe = torch.einsum("bhtw,bht->bhw", side_by_side, weights)
    of_group = probe.unflatten(-1, (-1, keys.shape[-1])).sum(2)
    scores = torch.einsum("bhtd,bhd->bht", keys.float(), of_group)
    scores = scores.masked_fill(~ranked[:, None], -torch.inf)
    places = _by_rank(scores)[..., :n]
    missing = n - places.shape[-1]
    return torch.cat([places, places[..., -1:].expand(-1, -1, missing)], dim=-1)


def _by_rank(
    scores: Float[Tensor, "batch n_kv_heads seq_len"],
) -> Int[Tensor, "batch n_kv_heads seq_len"]:
    """All places, the highest score first; equal scores, but for rounding, in their order.

    A token that a text repeats has one key before its rotation, and a kernel may round it in two
    ways: that must not decide which of both is taken.
    """
    ordered, places = scores.sort(dim=-1, descending=True, stable=True)
    largest = ordered.masked_fill(ordered.isinf(), 0).abs().amax(-1, keepdim=True)
    is_lower = ordered[..., :-1] - ordered[..., 1:] > TIE * largest
    n_higher = torch.nn.functional.pad(is_lower, (1, 0)).cumsum(-1)
    return places.gather(-1, (n_higher * places.shape[-1] + places).argsort(-1))


def activation_bias(
    states: Float[Tensor, "batch n_kv_heads seq_len width"], ranked: Bool[Tensor, "batch seq_len"]
) -> Float[Tensor, "batch n_kv_heads seq_len"]:
    """How far each token's states stand out from those of its text.

    Args:
        states: float32.
        ranked: the tokens that take part; others have none.

    Returns:
        The mean over dimensions of the squared distance from the mean, over the variance; 0 where
        all tokens are alike.
    """
    taking_part = ranked[:, None, :, None].to(states)
    n = taking_part.sum(2, keepdim=True)
    mean = (states * taking_part).sum(2, keepdim=True) / n
    squared = (states - mean).square() * taking_part
    variance = squared.sum(2, keepdim=True) / n
    damped = variance + variance.mean(-1, keepdim=True) / DAMPING
    return (squared / damped.clamp(min=torch.finfo(states.dtype).tiny)).mean(-1)


def not_probed(layer: int, name: str) -> InputError:
    """The refusal of a layer whose queries do not meet its keys and values head by head."""
    return InputError(
        f"layer {layer} of {name} does not attend, head by head, to the keys and values that it "
        "caches: no probe query ranks its tokens; give another `source`"
    )
