"""Allocation: the tensors of a trace before anything is in them, by what is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kvlens.models.anatomy import Anatomy, LayerAnatomy
from kvlens.models.info import ModelInfo
from kvlens.tracing.kinds import TEXT_INDEX, base_of, index_of
from kvlens.tracing.request import Request

DTYPE = torch.float32  # said, since torch's default is another while a thread loads a model


def empty_tensors(
    anatomy: Anatomy,
    info: ModelInfo,
    request: Request,
    lengths: Sequence[int],
    spans: Mapping[str, Sequence[range]],
) -> dict[str, Tensor]:
    """The tensors of `Trace.tensors`, without attention patterns and lengths of position 0.

    Args:
        anatomy: of the model.
        info: of the model.
        request: what is kept.
        lengths: tokens of each text, prompt included.
        spans: name of each span -> where it stands in each text.

    Returns:
        Name -> tensor on the CPU: those of states are not filled, the others are.
    """
    tensors: dict[str, Tensor] = {}
    for kind in request.keep:
        if kind == "hidden":
            n_points = sum(lengths) if request.points == "all" else len(lengths)
            tensors[kind] = _empty(n_points, len(request.layers), info.d_model)
        else:
            tensors |= _of_attention(kind, len(lengths), anatomy, info, request)
    for span, places in spans.items():
        counts = [len(each) for each in places]
        for kind in request.keep:
            if kind in request.of_spans:
                tensors |= _of_attention(f"{kind}@{span}", sum(counts), anatomy, info, request)
        tensors[index_of(f"k@{span}")] = _text_index(counts)
    if request.points == "all" and "hidden" in request.keep:
        tensors[TEXT_INDEX] = _text_index(lengths)
    return tensors


def layers_with_keys(anatomy: Anatomy, request: Request) -> list[int]:
    """Those of the recorded layers that have keys, ascending."""
    return [layer for layer in request.layers if anatomy.layers[layer].has_keys]


def _of_attention(
    kind: str, n_rows: int, anatomy: Anatomy, info: ModelInfo, request: Request
) -> dict[str, Tensor]:
    """Keys, values and the like: one tensor, or one a layer where layers differ in their size."""
    layers = layers_with_keys(anatomy, request)
    # Of the whole model's layers: one form, whichever of them are recorded.
    sizes = {_size(anatomy.layers[layer], kind, info) for layer in anatomy.key_layers}
    if len(sizes) == 1:
        return {kind: _empty(n_rows, len(layers), *sizes.pop())}
    return {
        f"{kind}.{layer}": _empty(n_rows, *_size(anatomy.layers[layer], kind, info))
        for layer in layers
    }


def _size(layer: LayerAnatomy, kind: str, info: ModelInfo) -> tuple[int, ...]:
    """Of one state in a layer that has keys."""
    return (info.d_model,) if kind == "attn_out" else layer.size_of(base_of(kind))


def _text_index(counts: Sequence[int]) -> Tensor:
    """The text of each row, where text i has ``counts[i]`` rows."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=DTYPE)
