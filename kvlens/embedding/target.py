"""Target: where a file run writes, and whether what is there already is its own."""

from __future__ import annotations

import os
from pathlib import Path

from kvlens.embedding.containers import CONTAINERS, ending, files_of
from kvlens.embedding.vectors import VectorsInfo, load_info
from kvlens.embedding.whole_vectors import check_whole
from kvlens.store.errors import InputError
from kvlens.store.files import scratch_folder, writable_file
from kvlens.store.part import (
    batch_begun_with,
    check_part,
    discard,
    has_chunks,
    is_part_of,
    part_folder,
)
from kvlens.texts.scan import Scan

LONGEST_HEADER = 90_000_000  # characters of ids; safetensors' own limit is 100 MB


def check_target(
    target: str | Path, source: str | Path = "-", resume: bool = False, overwrite: bool = False
) -> Path:
    """Refuse a target that cannot be written; so cheap that it can come before loading a model.

    Args:
        target: where vectors shall go.
        source: where the texts are.
        resume: whether a stopped run is continued.
        overwrite: whether a file, or a stopped run, may be replaced.

    Returns:
        `target`.

    Raises:
        InputError: for an unknown ending, an existing target, or a stopped run's chunks.
    """
    target = Path(target)
    if ending(target) not in CONTAINERS:
        choices = ", ".join(CONTAINERS)
        raise InputError(f"{target} is none of {choices}: give `target` one of these endings")
    for path in files_of(target):
        writable_file(path)
        if path.exists() and os.path.exists(source) and path.samefile(source):
            raise InputError(f"{path} holds the texts themselves: give another `target`")
    check_part(part_folder(target), resume or overwrite)
    # What says where it comes from may be what a resumed run has finished: see `finished`.
    if not overwrite and not (resume and load_info(target)):
        _refuse_existing(target)
    return target


def batches_begun_with(target: Path) -> int | None:
    """The padded tokens of a batch of the run that a resumed one goes on with, or finds done."""
    there = load_info(target)
    done_with = there.batch_tokens if there else None
    return batch_begun_with(part_folder(target)) or done_with


def finished(target: Path, info: VectorsInfo, overwrite: bool) -> VectorsInfo | None:
    """What a resumed run finds done, when it was stopped at its very end.

    Args:
        target: see `check_target`.
        info: what the run is made with.
        overwrite: whether what is there may be replaced.

    Returns:
        The facts of the target where it is this run's and whole, which is looked at; None where it
        is still to be written.

    Raises:
        InputError: for a target that is not this run's, or damaged.
    """
    there = load_info(target)
    if there is None or there.facts != info.facts:
        if not overwrite:
            _refuse_existing(target)
        return None
    try:
        return check_whole(target)
    except InputError:
        # Between the two names of a pair: the chunks are there still.
        half = len(files_of(target)) > 1 and is_part_of(part_folder(target), info.facts)
        if overwrite or half:
            return None
        raise


def tidy(target: Path) -> None:
    """Remove what a run that was killed at its very end has left beside its target."""
    for path in files_of(target):
        with scratch_folder(path.resolve()):
            """Entering removes what is abandoned."""
    discard(part_folder(target))


def _refuse_existing(target: Path) -> None:
    advice = "give another `target`, or `overwrite=True` to replace a file"
    if has_chunks(part_folder(target)):
        advice += " (with `resume=True` the stopped run beside it goes on)"
    for path in files_of(target):
        if path.exists():
            raise InputError(f"{path} exists: {advice}")


def check_header(target: Path, texts: Scan) -> None:
    """Raise InputError for more ids than the header of a container holds."""
    if ending(target) == ".safetensors" and texts.id_characters > LONGEST_HEADER:
        raise InputError(
            f"the header of {target} cannot hold {texts.info.n} ids: "
            "give `target` a name ending in .parquet"
        )
