"""Reading: what a file holds, before anything of it is believed.

Bounded by the size of the file: what never ends, a device or a pipe, is not begun.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

HEADER = "kvlens"  # the one key of our header in the metadata of other containers
LARGEST_JSON = 1 << 28  # bytes; the largest sweep so far has 1 << 24
DTYPES = ("BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "F32", "F64")  # that ours can have
UNREADABLE = (ValueError, RecursionError, SafetensorError)
"""What these functions raise for a file that is there and is not what it should be."""


def read_json(path: str | os.PathLike[str]) -> tuple[str, Any]:
    """The text of a JSON file, and what it says; raises OSError, or one of `UNREADABLE`."""
    size = _regular_size(path)
    if size > LARGEST_JSON:
        raise ValueError(f"it has {size:,} bytes, and at most {LARGEST_JSON:,} are read")
    text = Path(path).read_text(encoding="utf-8")
    return text, json.loads(text)


def read_tensors(
    path: str | os.PathLike[str], framework: Literal["np", "pt"] = "np"
) -> tuple[Any, dict[str, Any]]:
    """Our header and the arrays of a safetensors file; raises as `read_json`."""
    with open_tensors(path, framework) as file:
        header = unpacked_header(file.metadata())
        arrays: dict[str, Any] = {}
        for name in file.keys():  # noqa: SIM118
            dtype = file.get_slice(name).get_dtype()
            if dtype not in DTYPES:
                raise ValueError(f"a tensor is of type {dtype}")
            arrays[name] = file.get_tensor(name)
    return header, arrays


@contextlib.contextmanager
def open_tensors(
    path: str | os.PathLike[str], framework: Literal["np", "pt"] = "np"
) -> Iterator[Any]:
    """An open safetensors file, whose tensors are read as they are asked for; see `read_json`."""
    _regular_size(path)
    with safe_open(path, framework=framework) as file:
        yield file


def read_header(path: str | os.PathLike[str]) -> Any:
    """What a file of ours, of JSON or tensors, says of itself; raises as `read_json`."""
    if Path(path).suffix.lower() != ".safetensors":
        return read_json(path)[1]
    with open_tensors(path) as file:
        return unpacked_header(file.metadata())


def _regular_size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file; raises ValueError for a device, a pipe or a socket."""
    status = os.stat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ValueError("it is no regular file")
    return status.st_size


def unpacked_header(metadata: dict[str, str] | None) -> Any:
    """Our header out of a container's metadata, as JSON; {} where there is none.

    Version 0.1.0 wrote attention results' as a list of format, version and fields.
    """
    header = json.loads((metadata or {}).get(HEADER, "{}"))
    if isinstance(header, list) and len(header) == 3 and isinstance(header[2], dict):
        header = {"format": header[0], "version": header[1], **header[2]}
    return header
