"""GGUF: a quantized file becomes a float32 checkpoint in the cache, once."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from kvlens.models.quiet import quietly
from kvlens.models.refusing import refusing
from kvlens.models.soundness import (
    BUFFERS,
    refuse_larger_than,
    refuse_other_weights,
    refuse_too_many_layers,
)
from kvlens.store.errors import InputError, one_line
from kvlens.store.files import scratch_folder

HEADER = struct.Struct("<4sIQQ")  # magic, version, tensors, entries of metadata
MOST_PER_BYTE = 8  # weights in a byte of a GGUF file: its smallest have more than one bit


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a safetensors checkpoint, unless it is there; processes take turns.

    Args:
        gguf: the file.
        folder: of the checkpoint; it appears when everything is written.

    Raises:
        InputError: when the file cannot be read as a model, or the checkpoint cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), scratch_folder(folder) as scratch:
            if (folder / "config.json").exists():
                return
            # The reader's own bar ignores the library's switch, so standard error is set aside.
            with quietly(), contextlib.redirect_stderr(io.StringIO()):
                model, tokenizer = _read(gguf)
                model.save_pretrained(scratch / "new")
                tokenizer.save_pretrained(scratch / "new")
            if folder.exists():  # without its configuration it is no checkpoint of ours
                folder.rename(scratch / "damaged")
            (scratch / "new").rename(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise InputError(
            f"cannot convert {gguf.name} into {folder.parent} ({reason}): "
            "set KVLENS_CACHE to a folder that can be written and has room"
        ) from error


def _read(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file, its weights dequantized."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    what = f"cannot read {gguf.name} as a GGUF model"
    with refusing(what):
        n_tensors = _n_tensors(gguf)
        config = AutoConfig.from_pretrained(**source)
        refuse_too_many_layers(config, n_tensors, what)
        refuse_larger_than(config, MOST_PER_BYTE * gguf.stat().st_size + BUFFERS, what)
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **source,
            dtype=torch.float32,
            **_dequantized(),
            ignore_mismatched_sizes=True,  # they are refused by name
            output_loading_info=True,
        )
        model, loading_info = loaded
        refuse_other_weights(loading_info, gguf.name)
    return model, tokenizer


def _dequantized() -> dict[str, Any]:
    """Asks for plain weights, others cannot be saved; transformers before 5.17 gives no others."""
    import transformers

    if not hasattr(transformers, "GgufConfig"):
        return {}
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def _n_tensors(gguf: Path) -> int:
    """How many tensors the file says it holds."""
    with open(gguf, "rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(b"GGUF"):
        raise InputError(f"cannot read {gguf.name} as a GGUF model: it does not begin like one")
    return HEADER.unpack(header)[2]
