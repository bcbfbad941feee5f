"""Quantized: weights of few bits, by bitsandbytes while loading, or as a checkpoint has them.

Nothing of it may come from the hub as compiled code.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from kvlens.models.foreign import FETCHING_QUANTIZERS, with_parts
from kvlens.store.errors import InputError

QUANTIZE = ("int8", "nf4")
# Kinds that have kernels on the hub, and that transformers turns into plain weights without them.
UNPACKED = ("fp8", "mxfp4")
# What transformers needs for each kind of quantized checkpoint: modules, and what to install.
NEEDED = {
    "aqlm": (("aqlm",), "aqlm"),
    "auto-round": (("auto_round",), "auto-round"),
    "awq": (("gptqmodel",), "gptqmodel"),
    "bitnet": ((), ""),
    "bitsandbytes": (("bitsandbytes",), "bitsandbytes"),
    "compressed-tensors": (("compressed_tensors",), "compressed-tensors"),
    "fp_quant": (("fp_quant",), "fp_quant"),
    "gptq": (("optimum", "gptqmodel"), "optimum gptqmodel"),
    "hqq": (("hqq",), "hqq"),
    "quanto": (("optimum", "optimum.quanto"), "optimum-quanto"),
    "quark": (("quark",), "amd-quark"),
    "spqr": (("spqr_quant",), "spqr_quant"),
    "torchao": (("torchao",), "torchao"),
    "vptq": (("vptq",), "vptq"),
}


def unpack(config: Any) -> bool:
    """Have a checkpoint of `UNPACKED` loaded as plain weights.

    Args:
        config: of transformers; it and its parts are changed.

    Returns:
        Whether it is one.
    """
    is_packed = False
    for part in with_parts(config):
        entry = getattr(part, "quantization_config", None)
        if isinstance(entry, dict) and entry.get("quant_method") in UNPACKED:
            part.quantization_config = entry | {"dequantize": True}
            is_packed = True
    return is_packed


def convert(hf: Any, dtype: Any) -> None:
    """Bring the weights of an unpacked model to one dtype: some are as the checkpoint has them.

    Args:
        hf: a transformers model; what its class keeps in float32 is that.
        dtype: the dtype; nothing is done for "auto".
    """
    if not isinstance(dtype, torch.dtype):
        return
    lists = (hf._keep_in_fp32_modules, hf._keep_in_fp32_modules_strict)
    kept = {name for names in lists for name in names or ()}
    for name, parameter in hf.named_parameters():
        is_kept = not kept.isdisjoint(name.split("."))
        parameter.data = parameter.data.to(torch.float32 if is_kept else dtype)


def method_in(config: dict[str, Any]) -> str | None:
    """How a checkpoint is quantized, told from its config.

    Args:
        config: content of its config.json, whose parts are looked into.

    Returns:
        The name that transformers has for it; None when it is not quantized.
    """
    for part in (config, *config.values()):
        entry = part.get("quantization_config") if isinstance(part, dict) else None
        if isinstance(entry, dict) and entry:
            return str(entry.get("quant_method") or "bitsandbytes")
    return None


def refuse_quantized(config: dict[str, Any], quantize: str | None, what: str) -> None:
    """Refuse a quantized checkpoint that cannot be read here.

    Args:
        config: content of its config.json; nothing is built or fetched for it.
        quantize: what it shall be quantized to.
        what: is loaded, for the message.

    Raises:
        InputError: with the package that is missing; for kernels that come from the hub, and what
            is to be quantized twice.
    """
    method = method_in(config)
    if method is None:
        return
    if quantize is not None:
        raise InputError(f"{what} is quantized already ({method}): leave `quantize` out")
    if method in FETCHING_QUANTIZERS:
        raise InputError(
            f"{what} is quantized ({method}) for kernels from the hub, which kvlens does not run: "
            "take a checkpoint that is not quantized"
        )
    if method in UNPACKED:
        return
    if method not in NEEDED:
        raise InputError(f"{what} is quantized in a way that kvlens does not know ({method})")
    modules, packages = NEEDED[method]
    if not all(find_spec(module) for module in modules):
        raise InputError(f"{what} is quantized ({method}): pip install {packages}")


def refuse_without_bitsandbytes(quantize: str | None) -> None:
    """Raise InputError for an unknown kind, or where bitsandbytes is missing."""
    if quantize is None:
        return
    if quantize not in QUANTIZE:
        raise InputError(f"unknown `quantize` {quantize!r}: give one of {', '.join(QUANTIZE)}")
    if not find_spec("bitsandbytes"):
        raise InputError("`quantize` needs the package bitsandbytes: pip install bitsandbytes")


@contextlib.contextmanager
def without_hub_kernels() -> Iterator[None]:
    """Hide the package `kernels`, by which others run compiled code of the hub.

    bitsandbytes asks for it when it is imported, on some CPUs.
    """
    before = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["kernels"]
        if before is not None:
            sys.modules["kernels"] = before


def quantization_options(quantize: str | None, dtype: Any) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained` that quantize while loading.

    Args:
        quantize: one of `QUANTIZE`; None: as the weights are.
        dtype: of what is not quantized, and of the arithmetic.

    Returns:
        By name.
    """
    if quantize is None:
        return {}
    from transformers import BitsAndBytesConfig

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns in every pass
    if quantize == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    arithmetic = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=arithmetic
        )
    }


def is_quantized(hf: Any) -> bool:
    """Whether a transformers model has quantized weights."""
    return bool(getattr(hf, "is_quantized", False))


def dtype_name(hf: Any) -> str:
    """The dtype of a model's weights; of quantized ones their kind and that of the others.

    Args:
        hf: a transformers model.

    Returns:
        Such as "float32" or "nf4-bfloat16".
    """
    plain = str(next(hf.parameters()).dtype).removeprefix("torch.")
    if not is_quantized(hf):
        return plain
    config = hf.hf_quantizer.quantization_config
    method = str(getattr(config.quant_method, "value", config.quant_method))
    if method == "bitsandbytes":
        method = "int8" if config.load_in_8bit else config.bnb_4bit_quant_type
    return f"{method}-{plain}"


def keep_layout(hf: Any) -> None:
    """Have layers of 4 bits keep their weights as they are.

    On some CPUs their first pass lays them out anew, in bfloat16, for a kernel of the hub; other
    module trees over the same weights would not know.

    Args:
        hf: a transformers model; its modules are changed.
    """
    for module in hf.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
