"""Checkpoint: what a model folder holds, read before anything of it is loaded or allocated.

It knows JSON, the index and the headers of safetensors files; neither torch nor transformers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from kvlens.store.errors import InputError, one_line, shortened

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")  # as torch saves them


@dataclass(frozen=True)
class Checkpoint:
    """A model folder.

    Attributes:
        folder: where it is; a snapshot of the hub's cache is one, too.
        config: content of its config.json.
        shapes: of each tensor in the weights that are loaded; none where there are no safetensors.
    """

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def n_elements(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(shape) for shape in self.shapes.values())

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are packed, so that shapes say little."""
        return bool(self.config.get("quantization_config"))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what a model folder says of itself.

    Args:
        folder: with a config.json.

    Returns:
        Its config, and the names and shapes of its weights.

    Raises:
        InputError: when a file is missing or damaged, or is not in the folder.
    """
    config = read_object(folder / CONFIG)
    files = weight_files(folder, config)
    return Checkpoint(folder, config, _shapes([folder / name for name in files]))


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        file: to read.

    Returns:
        Its content.

    Raises:
        InputError: when it is no regular file, or holds anything else.
    """
    if not file.is_file():
        raise InputError(f"no such file: {file}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(shortened(f"{file} is no readable JSON: {one_line(error)}")) from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no JSON object: copy it from the model again")
    return content


def optional_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, an empty one where there is no such file."""
    return read_object(file) if file.is_file() else {}


def weight_files(folder: Path, config: dict[str, Any]) -> list[str]:
    """Which safetensors files are loaded, in the order of their names.

    A symbolic link may lead anywhere (those of the hub's cache do): what counts is its content.

    Args:
        folder: of the model.
        config: content of its config.json, which may name the file of the weights.

    Returns:
        Names relative to the folder; none where it has no safetensors.

    Raises:
        InputError: when the index is damaged, names a file that is not in the folder, or the
            weights are saved in a way that kvlens does not read.
    """
    if any(DISTRIBUTED.fullmatch(file.name) for file in folder.iterdir()):
        raise InputError(f"{folder} is a distributed checkpoint: save it with `save_pretrained`")
    shards = _shards(folder, INDEX) if (folder / INDEX).is_file() else []
    entry = config.get("transformers_weights")
    if entry is not None:
        _refuse_outside(folder / CONFIG, entry)
        files = _shards(folder, entry) if entry.endswith(".json") else [entry]
    elif (folder / WEIGHTS).is_file():
        files = [WEIGHTS]
    else:
        files = shards
    for name in files:
        if not (folder / name).is_file():
            raise InputError(shortened(f"{folder} has no {name}: copy the whole model"))
    return files


def _shards(folder: Path, index: str) -> list[str]:
    """The files that an index names."""
    file = folder / index
    weight_map = read_object(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{file} has no `weight_map`: copy it from the model again")
    for name in weight_map.values():
        _refuse_outside(file, name)
    return sorted(set(weight_map.values()))


def _refuse_outside(file: Path, name: Any) -> None:
    """Refuse what `file` names as weights unless it is a safetensors file in the folder."""
    endings = (".safetensors", ".safetensors.index.json")
    is_weights = isinstance(name, str) and name.endswith(endings)
    path = PurePosixPath(name if is_weights else "/")
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(
            shortened(f"{file} names {name!r} as weights: only safetensors in the folder are read")
        )


def _shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for file in files:
        try:
            with safe_open(file, framework="np") as weights:
                for name in weights.keys():  # noqa: SIM118 (it is no dict)
                    shapes[name] = tuple(weights.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise InputError(shortened(f"cannot read {file}: {one_line(error)}")) from error
    return shapes
