"""Folder: a layer set with its profile, its card and what belongs to it; here or at the hub.

It does not import `LayerSet`, whose methods these functions are.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from kvlens.layers.card import CARD_FILE, PICTURE_FILE, card_of
from kvlens.store.errors import InputError
from kvlens.store.facts import save_picture_of
from kvlens.store.files import atomic_path, sha256_file, write_text
from kvlens.store.hub_folder import PREFIX, HubName, commit_of, fetch, upload
from kvlens.store.notices import notice
from kvlens.store.opening import format_of

if TYPE_CHECKING:
    from kvlens.layers.layer_set import LayerSet

LAYERS_FILE = "layers.json"
PROFILE_FILE = "profile.json"
BESIDE = ("post-*.safetensors", "prefix.safetensors", "trace.safetensors")
"""What an encoder looks for beside a layer set: post-processing, other texts' keys and values."""


def write_folder(
    layer_set: LayerSet, folder: Path, files: Sequence[Path], repo: str = ""
) -> list[Path]:
    """Write a layer set as a folder with a card.

    Args:
        layer_set: what is written.
        folder: made where it is missing; other files in it stay.
        files: of kvlens that go along, as `BESIDE` names them.
        repo: the name under which the card says that it is to be had.

    Returns:
        What was written.

    Raises:
        InputError: for other files, calibration states that the layer set needs and that are not
            among them, and a place that cannot be written.
    """
    _check_files(layer_set, files)
    written = [layer_set.save(folder / LAYERS_FILE)]
    written.append(layer_set.profile.save(folder / PROFILE_FILE))
    for file in files:
        target = folder / file.name
        if not (target.exists() and target.samefile(file)):
            with atomic_path(target) as temporary:
                shutil.copyfile(file, temporary)
        written.append(target)
    written.append(save_picture_of(layer_set, folder / PICTURE_FILE))
    card = card_of(layer_set, [path.name for path in written], repo)
    write_text(folder / CARD_FILE, card)
    return [*written, folder / CARD_FILE]


def _check_files(layer_set: LayerSet, files: Sequence[Path]) -> None:
    for file in files:
        named = any(fnmatch(file.name, pattern) for pattern in BESIDE)
        if not named or not format_of(file).startswith("kvlens."):
            raise InputError(f"{file} does not belong to a layer set: give {', '.join(BESIDE)}")
    needed = layer_set.control.calibration
    if needed and needed not in map(sha256_file, files):
        raise InputError(
            f"the layer set needs its calibration states (sha256 {needed[:16]}): "
            "give their file among `files`"
        )


def push(layer_set: LayerSet, name: HubName, files: Sequence[Path], private: bool) -> HubName:
    """Put a layer set's folder into a repository of the hub.

    Args:
        layer_set: what is put there.
        name: of the repository.
        files: see `write_folder`.
        private: whether a new repository is.

    Returns:
        The name, with the commit.

    Raises:
        InputError: as `write_folder` and `upload`.
    """
    with tempfile.TemporaryDirectory(prefix="kvlens-") as scratch:
        write_folder(layer_set, Path(scratch), files, name.repo)
        return name.at(upload(Path(scratch), name, private))


def fetched_file(name: HubName) -> Path:
    """The layer-set file of a repository, with what belongs to it beside it; raises as `fetch`."""
    return fetch(name, LAYERS_FILE, (PROFILE_FILE, *BESIDE)) / LAYERS_FILE


def local_file(layers: str | Path) -> str | Path:
    """A layer-set file that is here, for what names one.

    Args:
        layers: a file, or ``hf://org/name`` with or without ``@revision``.

    Returns:
        The file; a name at the hub that is no commit is told with the commit that it means now.

    Raises:
        InputError: as `fetch`.
    """
    if not str(layers).startswith(PREFIX):
        return layers
    name = HubName.parse(str(layers))
    file = fetched_file(name)
    if not name.is_pinned:
        notice(f"{name} is now commit {commit_of(file.parent)}: put it behind an @ to keep it so")
    return str(file)
