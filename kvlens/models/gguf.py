"""GGUF: a quantized file becomes a float32 checkpoint in the cache, once."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError

from kvlens.models.quiet import quietly
from kvlens.store.errors import InputError, one_line
from kvlens.store.files import scratch_folder


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
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    dequantized = GgufConfig(dequantize=True)  # otherwise it could not be saved
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, quantization_config=dequantized
        )
    except Exception as error:  # the GGUF readers raise many kinds
        reason = one_line(error)
        raise InputError(f"cannot read {gguf.name} as a GGUF model: {reason}") from error
    return model, tokenizer
