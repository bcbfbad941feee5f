"""Whereabouts: on which devices a named model is put, and in which dtype."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from typing import Any

import torch

from kvlens.models.dispatched import refuse_without_accelerate
from kvlens.models.quantized import (
    is_quantized,
    keep_layout,
    method_in,
    quantization_options,
    refuse_without_bitsandbytes,
)
from kvlens.store.errors import InputError, one_line

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Whereabouts:
    """Where a model goes, and as what.

    Attributes:
        device: the one device, or, of a model that is spread, the first.
        dtype: of the weights; None: the checkpoint's own.
        device_map: of accelerate; None: all on `device`.
        quantize: while it is loaded: one of `quantized.QUANTIZE`.
        scratch: a folder for weights that go to disk.
    """

    device: torch.device
    dtype: torch.dtype | None
    device_map: Any = None
    quantize: str | None = None
    scratch: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def of(
        cls, device: str | None, dtype: str | None, device_map: Any, quantize: str | None
    ) -> Whereabouts:
        """What a user asks for.

        Args:
            device: its name.
            dtype: one of `DTYPES`; default float32 on the CPU, else the checkpoint's own.
            device_map: of accelerate.
            quantize: one of `quantized.QUANTIZE`.

        Returns:
            The same, checked.

        Raises:
            InputError: for a device that cannot be used, an unknown dtype, a device and a map, and
                packages that are missing.
        """
        if device is not None and device_map is not None:
            raise InputError("give `device` or `device_map`, not both")
        if device_map is not None:
            refuse_without_accelerate()
        refuse_without_bitsandbytes(quantize)
        where = usable_device(device)
        scratch = tempfile.TemporaryDirectory(prefix="kvlens-") if device_map else None
        return cls(where, _torch_dtype(dtype, where), device_map, quantize, scratch)

    def _dtype_of(self, config: Any) -> Any:
        """The dtype to load a model of this config in, as transformers takes it."""
        if self.dtype is not None:
            return self.dtype
        named = (getattr(part, "dtype", None) for part in (config, config.get_text_config()))
        return next((dtype for dtype in named if dtype in DTYPES.values()), "auto")

    def options(self, config: Any) -> dict[str, Any]:
        """Arguments of transformers' `from_pretrained`.

        Args:
            config: of the model, as it was saved.

        Returns:
            By name.
        """
        dtype = self._dtype_of(config)
        options = {"dtype": dtype, **quantization_options(self.quantize, dtype)}
        if self.scratch is not None:
            options |= {"device_map": self.device_map, "offload_folder": self.scratch.name}
        elif self.quantize or method_in(config.to_dict()):
            options["device_map"] = {"": self.device}  # what is quantized cannot move afterwards
        return options

    def placed(self, hf: Any) -> Any:
        """The loaded model on its device; one that is spread is there already."""
        keep_layout(hf)
        if self.scratch is None:
            return hf if is_quantized(hf) else hf.to(self.device)
        weakref.finalize(hf, self.scratch.cleanup)  # and so it is kept until then
        return hf


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


def _torch_dtype(dtype: str | None, device: torch.device) -> torch.dtype | None:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: give one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
