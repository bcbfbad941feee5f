"""Target: where a file run writes, and the chunks that a stopped one has left beside it.

Finished chunks are kept in ``TARGET.part``, with what they were made with in its ``run.json``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from kvlens.embedding.vectors import CONTAINERS, VectorsInfo, beside, ending, files_of
from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.texts.texts import Texts

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
        if not path.exists():
            continue
        if Path(source).exists() and path.samefile(source):
            raise InputError(f"{path} holds the texts themselves: give another `target`")
        if path.is_dir() or not overwrite:
            raise InputError(
                f"{path} exists: give another `target`, or `overwrite=True` to replace a file"
            )
    _check_part(part_folder(target), resume or overwrite)
    return target


def _check_part(part: Path, wanted: bool) -> None:
    """Refuse what is not a stopped run's, and a stopped run that is not `wanted`."""
    foreign = any(part.glob("[!.]*")) and not (part / "run.json").is_file()
    if part.is_file() or foreign:
        raise InputError(f"{part} is in the way and was not left by a stopped run: move it away")
    if _finished(part) and not wanted:
        raise InputError(
            f"{part} has a stopped run: `resume=True` continues it, `overwrite=True` starts again"
        )


def check_header(target: Path, texts: Texts) -> None:
    """Raise InputError for more ids than the header of a container holds."""
    if ending(target) == ".safetensors" and len(json.dumps(texts.ids)) > LONGEST_HEADER:
        raise InputError(
            f"the header of {target} cannot hold {texts.n} ids: "
            "give `target` a name ending in .parquet"
        )


def part_folder(target: Path) -> Path:
    """Where the finished chunks of a run are kept."""
    return beside(target, ".part")


def _finished(part: Path) -> list[Path]:
    return list(part.glob("*.safetensors"))


@contextlib.contextmanager
def open_part(target: Path, info: VectorsInfo, resume: bool) -> Iterator[Path]:
    """The folder of a run's chunks, which outlives a run that was stopped with finished ones.

    Args:
        target: of the run.
        info: what the run is made with.
        resume: whether it continues a stopped one.

    Yields:
        The folder.

    Raises:
        InputError: for a stopped run that was made with something else.
    """
    part = _open_part(part_folder(target), info, resume)
    written = False
    try:
        yield part
        written = True
    finally:
        if written or not _finished(part):
            shutil.rmtree(part, ignore_errors=True)


def _open_part(part: Path, info: VectorsInfo, resume: bool) -> Path:
    now = json.loads(info.model_dump_json())
    if not resume:
        shutil.rmtree(part, ignore_errors=True)
    if _finished(part):
        before = json.loads((part / "run.json").read_text(encoding="utf-8"))
        changed = ", ".join(name for name in now if before.get(name) != now[name])
        if changed:
            raise InputError(
                f"{part} has a run with other {changed}: give what it was started with, "
                "or `overwrite=True` without `resume` to start again"
            )
    write_text(part / "run.json", json.dumps(now, indent=1))
    return part
