"""Present: what a recorded model's name means here, told without loading any weights.

Nothing is fetched and nothing converted: files are hashed as `locating` does before it loads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kvlens.models.catalog import NAMED, is_cached, named_folder
from kvlens.models.checkpoint import read_checkpoint
from kvlens.models.foreign import refuse_foreign
from kvlens.models.hub import cached_folder
from kvlens.models.identity import tokenizer_id
from kvlens.models.locating import converted_folder, locate
from kvlens.models.quiet import quietly
from kvlens.models.tokenizer import read_tokenizer
from kvlens.store.errors import InputError, one_line
from kvlens.store.files import sha256_file
from kvlens.store.here import Here

CONTENT = "sha256:"  # how a revision begins that is a hash
COMMIT = re.compile(r"[0-9a-f]{40}")


def model_here(name: str, revision: str, places: Sequence[Path] = ()) -> Here:
    """What a model's name means here.

    Args:
        name: as it was recorded.
        revision: as it was recorded; it tells which commit of the hub is looked for.
        places: the files and folders that the name can mean.

    Returns:
        Its revision now, and the folder with its config and tokenizer where there is one.
    """
    if name in NAMED:
        return _named(name)
    for place in places:
        if (place / "config.json").is_file():
            return _directory(place, revision)
        if place.suffix.lower() == ".gguf" and place.is_file():
            return _gguf_file(place)
    return _of_hub(name, revision)


def _named(name: str) -> Here:
    content = f"{CONTENT}{NAMED[name].sha256}"
    if is_cached(name):
        return Here(content, exists=True, place=named_folder(name))
    return Here(content, exists=True, note="pinned; it is fetched at its first use here")


def _directory(folder: Path, recorded: str) -> Here:
    try:
        content = locate(str(folder)).revision
        if content != recorded and any(folder.rglob("*.py")):
            with_code = locate(str(folder), trust_remote_code=True).revision
            content = recorded if with_code == recorded else content
    except (InputError, OSError) as error:
        return Here(None, exists=True, note=f"{folder}: {one_line(error)}", place=folder)
    return Here(content, exists=True, place=folder)


def _gguf_file(path: Path) -> Here:
    try:
        digest = sha256_file(path)
    except OSError as error:
        return Here(None, exists=True, note=f"cannot read {path}: {one_line(error)}")
    converted = converted_folder(path, digest)
    return Here(f"{CONTENT}{digest}", exists=True, place=converted if converted.is_dir() else None)


def _of_hub(name: str, revision: str) -> Here:
    """A commit that the local hub cache holds: the recorded one, or else what the name means."""
    main = cached_folder(name, "main")
    recorded = cached_folder(name, revision) if COMMIT.fullmatch(revision) else None
    if recorded is not None:
        moved = main is not None and main.name != recorded.name
        note = f"main is {main.name[:12]} here: load it by `revision`" if main and moved else ""
        return Here(revision, exists=True, note=note, place=recorded)
    if main is not None:
        return Here(main.name, exists=True, place=main)
    if revision.startswith(CONTENT):
        note = "no model directory and no GGUF file of this name is here"
    else:
        note = "it is not in the local hub cache"
    return Here(None, exists=False, note=note)


def tokenizer_here(folder: Path) -> Here:
    """The tokenizer in a model's folder, named as `ModelInfo.tokenizer` does.

    Args:
        folder: holds the tokenizer's files; code in it is not run.
    """
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quietly():
            refuse_foreign(read_checkpoint(folder), trust_remote_code=False)
            tokenizer = read_tokenizer(str(folder), folder, options)
        return Here(tokenizer_id(tokenizer), exists=True, place=folder)
    except Exception as error:  # the readers' errors share no base
        return Here(None, exists=False, note=f"it cannot be read: {one_line(error)}", place=folder)
