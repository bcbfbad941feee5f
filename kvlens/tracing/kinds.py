"""Kinds: what of a text is recorded, and what the tensors of a trace are called."""

from __future__ import annotations

import re
from typing import Literal

Points = Literal["last", "mean", "all"]
"""Which hidden states of a text are recorded."""

KEEP = ("hidden", "k", "k_pre", "v")
"""The kinds of states that are recorded unless others are named."""

OF_ATTENTION = ("q", "z", "attn_out")
"""Further kinds, by TransformerLens's names: the query after its rotation, what the heads give
before the output projection, and what the attention module gives."""

KINDS = (*KEEP, *OF_ATTENTION)
"""Every kind of states."""

POSITION_ZERO = "position_zero"
"""Name of the lengths of position 0's states, see `kvlens.tracing.position_zero`."""

TEXT_INDEX = "text_index"
"""Name of the text of each point, where every token is one."""

AXES = {
    "hidden": "n_points n_recorded d_model",
    **dict.fromkeys(("k", "k_pre"), "n_texts n_with_keys n_kv_heads d_head"),
    "v": "n_texts n_with_keys n_kv_heads width",
    "q": "n_texts n_with_keys n_heads width",
    "z": "n_texts n_with_keys n_heads width",
    "attn_out": "n_texts n_with_keys d_model",
    POSITION_ZERO: "n_texts n_boundaries",
}
"""Kind -> its axes."""

AXES_OF_LAYER = {
    "hidden": "n_points d_model",
    **dict.fromkeys(("k", "k_pre", "v", "q", "z"), "n_texts heads width"),
    "attn_out": "n_texts d_model",
}
"""Kind -> the axes of a tensor of one layer alone."""

OF_LAYER = re.compile(r"(hidden|k|k_pre|v|q|z|attn_out)\.(0|[1-9][0-9]{0,8})")
"""Name of one layer's states, where layers differ in their size, and in shards."""

PATTERN = re.compile(r"pattern\.(0|[1-9][0-9]{0,8})")


def kind_of(name: str) -> str:
    """The kind of states of a tensor that may be one layer's: ``k.3`` -> ``k``."""
    of_layer = OF_LAYER.fullmatch(name)
    return of_layer[1] if of_layer else name
