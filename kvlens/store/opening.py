"""Opening: what a saved file is, by what it says of itself; the facade knows who reads it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from kvlens.store.arguments import shown
from kvlens.store.checking import arguments, path
from kvlens.store.errors import InputError, one_line
from kvlens.store.reading import UNREADABLE, read_header

VECTORS = "kvlens.vectors"

# Format of a saved file -> "module:what loads it", a class with `load` or a function. The facade
# fills this, so that the store knows no room above it.
READERS: dict[str, str] = {}


@arguments(path=path)
def open_saved(path: str | os.PathLike[str]) -> Any:
    """Load any file that kvlens saved, by what it says of itself.

    Args:
        path: .json, .safetensors, or vectors as .npy or .parquet.

    Returns:
        The result: a `LayerSet`, an `IDProfile`, a `Trace`, ...

    Raises:
        InputError: for a file that is none of these, or damaged.
    """
    name = format_of(path)
    module, _, attribute = READERS.get(name, "").partition(":")
    if not module:
        raise InputError(f"{path} is a file of the unknown format {shown(name)}")
    reader = getattr(importlib.import_module(module), attribute)
    return getattr(reader, "load", reader)(path)


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a saved file names, such as ``kvlens.layer-set``.

    Args:
        path: any file that kvlens saves: .json, .safetensors, or vectors as .npy and .parquet.

    Returns:
        The format.

    Raises:
        InputError: for a file that cannot be read or names none.
    """
    path = Path(path)
    if path.suffix.lower() in (".npy", ".parquet"):
        return VECTORS
    try:
        header = read_header(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path} is no file of kvlens: {one_line(error)}") from error
    if isinstance(header, dict) and isinstance(header.get("info"), dict):
        header = header["info"]  # vectors keep their facts one level deeper, beside the ids
    name = header.get("format") if isinstance(header, dict) else None
    if not isinstance(name, str):
        raise InputError(f'{path} is no file of kvlens: it has no "format"')
    return name
