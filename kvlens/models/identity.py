"""Identity: what a loaded transformers model is: its shapes and its hash."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from pydantic import ValidationError

from kvlens.models.anatomy import Anatomy
from kvlens.models.dispatched import input_device, weights_of
from kvlens.models.info import ModelInfo
from kvlens.models.kind import first_layer_config
from kvlens.models.quantized import dtype_name
from kvlens.store.artifact import first_problem
from kvlens.store.errors import InputError
from kvlens.store.sharing import lock_of

DEFAULT_CONTEXT = 2048  # tokens, of a model whose config names no limit


def info_of(hf: Any, anatomy: Anatomy, tokenizer: Any, name: str, revision: str = "") -> ModelInfo:
    """What identifies a model, and its shapes.

    Args:
        hf: a transformers causal LM.
        anatomy: its blocks.
        tokenizer: that goes with it.
        name: as the user gave it.
        revision: default a hash of the weights.

    Returns:
        The facts that saved results hold.

    Raises:
        InputError: for a config whose numbers no model has.
    """
    try:
        return _info_of(hf, anatomy, tokenizer, name, revision)
    except ValidationError as error:
        raise InputError(f"{name} has an absurd config: {first_problem(error)}") from error


def _info_of(hf: Any, anatomy: Anatomy, tokenizer: Any, name: str, revision: str) -> ModelInfo:
    config = first_layer_config(hf.config)
    n_layers = len(anatomy.layers)
    return ModelInfo(
        name=name,
        revision=revision or f"sha256:{_weights_hash(hf)}",
        architecture=type(hf).__name__,
        n_layers=n_layers,
        n_heads=anatomy.first.n_heads,
        n_kv_heads=anatomy.first.n_kv_heads,
        d_head=anatomy.first.d_key,
        d_model=config.hidden_size,
        vocab_size=config.vocab_size,
        max_positions=getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT,
        dtype=dtype_name(hf),
        device=str(input_device(hf)),
        tokenizer=tokenizer_id(tokenizer),
        key_layers=_unless_all(anatomy.key_layers, n_layers),
        reroutable=_unless_all(anatomy.reroutable, n_layers),
    )


def _unless_all(layers: tuple[int, ...], n_layers: int) -> tuple[int, ...] | None:
    return None if len(layers) == n_layers else layers


def tokenizer_id(tokenizer: Any) -> str:
    """Class of a tokenizer of transformers and a hash of its content."""
    with lock_of(tokenizer):
        content = _tokenizer_content(tokenizer)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{type(tokenizer).__name__}:{digest[:16]}"


def _tokenizer_content(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return backend.to_str()
    return repr(sorted(tokenizer.get_vocab().items()))


def _weights_hash(hf: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in weights_of(hf):
        digest.update(name.encode())
        as_bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(as_bytes.numpy().data)
    return digest.hexdigest()
