"""Rotation: keys turned to a token's place as the attention module itself would turn them.

A module turns only the keys that it makes. So it is asked what it makes of a few states, turned and
not; each pair of dimensions that turn together then has a map, which is found by least squares. A
norm after the rotation is in it.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from kvlens.models.anatomy import LayerAnatomy
from kvlens.models.attention_call import AttentionCall
from kvlens.store.errors import InputError

SAMPLES = 16  # states, which make several times as many pairs as a map has numbers
SEED = 0
TOLERANCE = 1e-4
"""How far the maps may be from what the module made, of its length, in float32."""
HALF_TOLERANCE = 5e-2

Pairs = Float64[Tensor, "batch pairs keys 2"]
"""The pairs of dimensions that turn together, of all keys of a row."""
WITH_PAIRS = ("half", "interleaved")


def turned(
    keys: Float[Tensor, "batch n_kv_heads 1 d_key"], call: AttentionCall, layer: LayerAnatomy
) -> Float[Tensor, "batch n_kv_heads 1 d_key"]:
    """Keys that are not rotated, rotated to where a call's tokens stand.

    Args:
        keys: any, as ``k_pre`` is.
        call: of the layer's attention module, one token a row.
        layer: of which.

    Returns:
        The keys at those places, in their dtype.

    Raises:
        InputError: for a module whose rotation is no linear map of pairs.
    """
    if layer.rotation == "none":
        return keys
    turning = slice(layer.rotary_start, layer.rotary_start + layer.rotary_dim)
    if layer.rotation not in WITH_PAIRS:
        raise _not_linear(layer)
    samples = call.of_states(_sample_states(call.states.shape[-1]).to(call.states))
    still = _pairs(_keys(samples.at("none", None), turning), layer.rotation)
    moved = _pairs(_keys(samples, turning), layer.rotation)
    # On the CPU, where a least-squares fit copes with any rank.
    maps = torch.linalg.lstsq(still.cpu(), moved.cpu(), driver="gelsd").solution.to(still.device)
    _check_maps(still @ maps, moved, call, layer)
    result = keys.clone()
    pairs = _pairs(keys[..., turning], layer.rotation) @ maps
    result[..., turning] = _from_pairs(pairs, layer.rotation).to(keys)
    return result


def _keys(call: AttentionCall, turning: slice) -> Tensor:
    return call.key_and_value()[0][..., turning]


def _pairs(keys: Float[Tensor, "batch heads tokens width"], rotation: str) -> Pairs:
    if rotation == "half":
        in_pairs = keys.unflatten(-1, (2, -1)).transpose(-1, -2)
    else:
        in_pairs = keys.unflatten(-1, (-1, 2))
    return in_pairs.permute(0, 3, 1, 2, 4).flatten(2, 3).double()


def _from_pairs(pairs: Pairs, rotation: str) -> Float64[Tensor, "batch heads 1 width"]:
    """The keys of one token a row."""
    in_pairs = pairs.transpose(1, 2)[:, :, None]
    if rotation == "half":
        in_pairs = in_pairs.transpose(-1, -2)
    return in_pairs.flatten(-2)


@cache
def _sample_states(d_model: int) -> Float[Tensor, "samples d_model"]:
    """States of no text, the same in every pass."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(SAMPLES, d_model, generator=generator)


def _check_maps(mapped: Pairs, moved: Pairs, call: AttentionCall, layer: LayerAnatomy) -> None:
    distance = (mapped - moved).norm() / moved.norm()
    allowed = TOLERANCE if call.states.dtype == torch.float32 else HALF_TOLERANCE
    if not distance <= allowed:
        raise _not_linear(layer)


def _not_linear(layer: LayerAnatomy) -> InputError:
    return InputError(
        f"layer {layer.layer} rotates its keys in a way of its own: other texts' keys and means of "
        "keys cannot be put at a place there; give key='own' and a source that is a token"
    )
