"""Items file: arrays beside a result of mteb's, and hashes that tie them to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from kvlens.store.artifact import HEADER
from kvlens.store.files import sha256_file


def read_items(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """A file of items: its hashes as `seal_of` gives them, {} in version 0.1.0, and the arrays."""
    with safe_open(file, framework="np") as opened:
        seal = opened.metadata() or {}
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return seal, arrays


def seal_of(file: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What ties the items to mteb's result: the hash of that file, and of themselves."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(array.tobytes())
    hashes = {"result": sha256_file(file), "items": digest.hexdigest()}
    return {HEADER: json.dumps(hashes)}
