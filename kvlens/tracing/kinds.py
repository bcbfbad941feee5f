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

OF_ANY_TOKEN = ("k", "k_pre", "v")
"""The kinds that are kept of other tokens, too: ``k@first``, see `kvlens.tracing.spans`."""

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

_SPAN = r"first|text|-?[0-9]{1,6}|[0-9]{1,6}-[0-9]{1,6}"

OF_SPAN = re.compile(rf"(k|k_pre|v|text_index)@({_SPAN})")
"""Name of the keys or values of other tokens, or of the text that each of these is of."""

OF_LAYER = re.compile(
    rf"(hidden|q|z|attn_out|(?:k|k_pre|v)(?:@(?:{_SPAN}))?)\.(0|[1-9][0-9]{{0,8}})"
)
"""Name of one layer's states, where layers differ in their size, and in shards."""

PATTERN = re.compile(r"pattern\.(0|[1-9][0-9]{0,8})")


def kind_of(name: str) -> str:
    """The kind of states of a tensor that may be one layer's: ``k.3`` -> ``k``."""
    of_layer = OF_LAYER.fullmatch(name)
    return of_layer[1] if of_layer else name


def base_of(kind: str) -> str:
    """A kind, of whichever tokens: ``k@first`` -> ``k``."""
    return kind.partition("@")[0]


def index_of(kind: str, points: str = "last") -> str:
    """The tensor with the text of each row of a kind: ``k@first`` -> ``text_index@first``.

    Args:
        kind: of states.
        points: which hidden states there are.

    Returns:
        Its name; empty where row i is of text i.
    """
    _, at, span = kind.partition("@")
    if at:
        return f"{TEXT_INDEX}@{span}"
    return TEXT_INDEX if (kind, points) == ("hidden", "all") else ""
