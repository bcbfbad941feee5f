"""Loading: a hub id, a local directory, a GGUF file or a named small model -> `LanguageModel`."""

from __future__ import annotations

import os
from typing import Any

import torch

from kvlens.models.hub import fetch_config
from kvlens.models.identity import refuse_other_than_decoder
from kvlens.models.language_model import LanguageModel
from kvlens.models.locating import locate
from kvlens.models.quiet import quietly
from kvlens.store.errors import InputError, one_line

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    name: str | os.PathLike[str],
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a decoder-only LLM.

    Args:
        name: a named small model (see `catalog.NAMED`), a hub id, a local directory, or a
            ``.gguf`` file.
        device: default CUDA when there is one, else CPU.
        dtype: one of `DTYPES`. Default float32 on the CPU (bfloat16 is many times slower there),
            the checkpoint's own on an accelerator.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that the checkpoint brings.

    Returns:
        The model, in eval mode; only safetensors are read.

    Raises:
        InputError: with one line that says what is wrong and what to do.
    """
    name = os.fspath(name)
    where = usable_device(device)
    torch_dtype = _torch_dtype(dtype, where)
    place = locate(name)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with quietly():
        fetched = fetch_config(place.source, name, options)
        refuse_other_than_decoder(fetched.config, name)
        options |= {"local_files_only": fetched.is_local}
        hf, tokenizer = _from_pretrained(place.source, name, fetched.config, torch_dtype, options)
    commit = getattr(fetched.config, "_commit_hash", None)
    known_revision = place.revision or commit or revision or "unknown"
    return LanguageModel.wrap(hf.to(where), tokenizer, name, known_revision)


def _from_pretrained(
    source: str, name: str, config: Any, dtype: Any, options: dict[str, Any]
) -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=dtype, use_safetensors=True, **options
        )
    except Exception as error:  # the readers' errors share no base
        raise InputError(f"cannot load {name}: {one_line(error)}") from error
    return model, tokenizer


def usable_device(device: str | None) -> torch.device:
    """A device that really holds tensors.

    Args:
        device: its name; default CUDA when there is one, else CPU.

    Returns:
        The device, with its number where it has one.

    Raises:
        InputError: when no tensor can be made on it.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {chosen!r} cannot be used here: {one_line(error)}") from error


def _torch_dtype(dtype: str | None, device: torch.device) -> Any:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: give one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
