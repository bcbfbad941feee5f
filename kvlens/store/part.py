"""Part: the folder beside a target where a long job keeps its finished chunks until it is done.

``TARGET.part`` holds the chunks with their index, and in ``run.json`` what they are made with: a
stopped run goes on with the same, and with nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kvlens.store.chunk_index import INDEX, ChunkIndex, Form
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.files import scratch_folder, unwritable, write_text
from kvlens.store.provenance import current_command
from kvlens.store.room import Room

RUN = "run.json"
COMMAND = "command"
CHUNKS = (".safetensors", ".parquet")  # ours, and those of an engine
LOCK = ".lock"  # held by the process that runs


def part_folder(target: Path) -> Path:
    """Where the finished chunks of a run are kept."""
    return target.with_name(f"{target.name}.part")


def check_part(part: Path, wanted: bool) -> None:
    """Refuse what is not a stopped run's, and a stopped run that nobody asked for.

    Args:
        part: the folder, perhaps not there.
        wanted: whether a stopped run may be continued or replaced.

    Raises:
        InputError: for either, and where another process is at it.
    """
    if part.exists() and not _is_part(part):
        raise InputError(f"{part} is in the way and was not left by a stopped run: move it away")
    if part.exists():
        _leave(_taken(part))
    if has_chunks(part) and not wanted:
        raise InputError(
            f"{part} has a stopped run: `resume=True` continues it, `overwrite=True` starts again"
        )


def _taken(part: Path) -> FileLock:
    """The lock of a run's folder, held; raises InputError where another process holds it."""
    lock = FileLock(part / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another process is at {part} now: wait until it is done") from None
    except OSError as error:
        raise unwritable(part, error) from error
    return lock


def _leave(lock: FileLock) -> None:
    """Remove a lock while it is held: who comes after makes a new one."""
    with contextlib.suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


def _is_part(part: Path) -> bool:
    """Whether a run left this: nothing but its files, or nothing at all."""
    if not part.is_dir():
        return False
    names = {path.name for path in part.glob("[!.]*")}
    chunks = {name for name in names if name.endswith(CHUNKS)}
    return not names or (RUN in names and names - chunks <= {RUN, INDEX})


def has_chunks(part: Path) -> bool:
    """Whether something in it is finished."""
    return any(path.suffix in CHUNKS for path in part.glob("[!.]*"))


def is_part_of(part: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a run with these facts was stopped there."""
    return (part / RUN).is_file() and not _changed(part, facts)


@contextlib.contextmanager
def open_part(
    part: Path, facts: Mapping[str, Any], forms: Mapping[str, Form], room: Room | None = None
) -> Iterator[ChunkIndex]:
    """The chunks of a run, which outlive a run that was stopped with finished ones.

    Args:
        part: the folder, perhaps of a run that was stopped; see `discard` to start again.
        facts: what the chunks are made with, as JSON.
        forms: see `ChunkIndex`.
        room: see `ChunkIndex`.

    Yields:
        The chunks.

    Raises:
        InputError: for a stopped run with other facts, and where another process is at it.
    """
    lock = _taken(part)
    try:
        _start(part, facts)
        yield ChunkIndex.open(part, forms, room)
    finally:
        _leave(lock)
        if not has_chunks(part):
            discard(part)


def _start(part: Path, facts: Mapping[str, Any]) -> None:
    """Note what the chunks are made with; raises InputError for a run with other facts."""
    if has_chunks(part):
        changed = _changed(part, facts)
        if changed:
            raise InputError(
                f"{part} has a run with other {', '.join(changed)}: give what it was started "
                "with, or `overwrite=True` without `resume` to start again"
            )
    if not is_part_of(part, facts):
        run = {**facts, COMMAND: current_command()}
        write_text(part / RUN, json.dumps(run, indent=1))


@contextlib.contextmanager
def finished_chunks(
    part: Path | None, facts: Mapping[str, Any], forms: Mapping[str, Form]
) -> Iterator[ChunkIndex | None]:
    """`open_part`, or None where no folder keeps what is finished."""
    if part is None:
        yield None
        return
    with open_part(part, facts, forms) as index:
        yield index


def started_by(part: Path) -> str | None:
    """The command line that started the run which was stopped there; None where none was."""
    return _run(part).get(COMMAND) if (part / RUN).is_file() else None


def batch_begun_with(part: Path) -> int | None:
    """The padded tokens of a batch of the run that was stopped there; None where none was."""
    if not has_chunks(part) or not (part / RUN).is_file():
        return None
    n_tokens = _run(part).get("batch_tokens")
    return n_tokens if isinstance(n_tokens, int) and n_tokens > 0 else None


def discard(part: Path) -> None:
    """Remove a run's chunks: at once, so that nobody ever meets a half of them.

    Raises:
        InputError: when that is not possible.
    """
    try:
        with scratch_folder(part) as scratch, contextlib.suppress(FileNotFoundError):
            part.rename(scratch / part.name)
    except OSError as error:
        raise unwritable(part, error) from error


def _changed(part: Path, facts: Mapping[str, Any]) -> list[str]:
    """The names of facts that were others when the run there was started."""
    before = _run(part)
    return [name for name in facts if before.get(name) != facts[name]]


def _run(part: Path) -> dict[str, Any]:
    """What a stopped run was started with."""
    path = part / RUN
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, one_line(error)) from error
    if not isinstance(run, dict):
        raise _unreadable(path, "it is no JSON object")
    return run


def _unreadable(path: Path, reason: str) -> InputError:
    advice = "`overwrite=True` without `resume` starts again"
    return InputError(shortened(f"{path} does not say what was run there: {advice} ({reason})"))
