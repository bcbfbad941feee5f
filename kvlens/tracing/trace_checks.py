"""Trace checks: the tensors of a trace are those of its model, its layers and its texts.

Types and shapes are looked at; of what is in files, nothing is read for it but indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kvlens.store.arguments import shown
from kvlens.store.arrays import check_array
from kvlens.store.errors import InputError
from kvlens.tracing.kinds import (
    AXES,
    AXES_OF_LAYER,
    OF_LAYER,
    OF_SPAN,
    PATTERN,
    TEXT_INDEX,
    base_of,
    kind_of,
)
from kvlens.tracing.shards import forms_of

if TYPE_CHECKING:
    from kvlens.tracing.trace import Trace


def check_tensors(trace: Trace) -> None:
    """Raise InputError for a tensor that does not belong to a trace, or is not as it should be."""
    is_indexed = trace.points == "all" and trace.holds("hidden")
    if is_indexed != (TEXT_INDEX in trace.tensors):
        raise InputError('text_index goes with hidden states of points="all", and only so')
    sizes = _sizes(trace)
    for name, form in forms_of(trace.tensors).items():
        if name == TEXT_INDEX:
            _check_text_index(trace, form, sizes)
        elif OF_SPAN.fullmatch(name) and base_of(name) == TEXT_INDEX:
            _check_span_index(trace, name, form)
        else:
            _check_states(trace, name, form, sizes)


def _sizes(trace: Trace) -> dict[str, int]:
    """Axis -> its size."""
    n = trace.texts.n
    return {
        "n_texts": n,
        "n_points": sum(trace.n_tokens) if trace.points == "all" else n,
        "n_recorded": len(trace.layers),
        "n_boundaries": trace.model.n_layers + 1,
        "n_with_keys": len(trace.key_layers),
        "n_heads": trace.model.n_heads,
        "n_kv_heads": trace.model.n_kv_heads,
        "d_head": trace.model.d_head,
        "d_model": trace.model.d_model,
    }


def _check_states(trace: Trace, name: str, form: Tensor, sizes: Mapping[str, int]) -> None:
    pattern = PATTERN.fullmatch(name)
    of_layer = OF_LAYER.fullmatch(name)
    kind = kind_of(name)
    if OF_SPAN.fullmatch(kind):
        sizes = {**sizes, "n_texts": len(trace.text_of(kind))}
    base = base_of(kind)
    if of_layer and int(of_layer[2]) in trace.layers_of(kind):
        check_array(name, form, AXES_OF_LAYER[base], sizes)
    elif name in AXES or (OF_SPAN.fullmatch(name) and base in AXES):
        check_array(name, form, AXES[base], sizes)
    elif pattern and int(pattern[1]) < trace.texts.n:
        seq_len = trace.n_tokens[int(pattern[1])]
        check_array(name, form, f"n_recorded n_heads {seq_len} {seq_len}", sizes)
    else:
        raise InputError(f"it has an unknown tensor {shown(name)}")


def _check_text_index(trace: Trace, form: Tensor, sizes: Mapping[str, int]) -> None:
    check_array(TEXT_INDEX, form, "n_points", sizes, ("int64",))
    texts = torch.arange(trace.texts.n).repeat_interleave(torch.tensor(trace.n_tokens))
    if not torch.equal(trace.tensors[TEXT_INDEX], texts):
        raise InputError("text_index does not count the tokens of each text")


def _check_span_index(trace: Trace, name: str, form: Tensor) -> None:
    check_array(name, form, "rows", {}, ("int64",))
    index = trace.tensors[name]
    ascends = bool((index.diff() >= 0).all())
    if not ascends or (len(index) and not 0 <= index[0] <= index[-1] < trace.texts.n):
        raise InputError(f"{name} does not go through the texts in their order")
