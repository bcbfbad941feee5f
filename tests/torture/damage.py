"""Damage: copies of a good file that a disk, a crash or a foe could have made, and what holds then.

The law: a reader returns a value that survives its own use, or raises an `InputError` of one short
printable line that names the file. Never another exception, a flood of warnings, much time or
memory, or code that runs. A case is known by its seed, its format and its number.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from torture.damage_to_bytes import BYTES, FOREIGN, TRAP
from torture.damage_to_values import (
    header_damage,
    is_json,
    is_safetensors,
    json_damage,
    tensor_damage,
)

import kvlens

LONGEST_LINE = 299  # characters of a refusal, the folders of the file's name apart
MOST_SECONDS = 2.0  # of the processor
MOST_MEMORY = 1 << 30  # bytes beside what the process has before
MOST_WARNINGS = 3
LOADED = "loaded"
REFUSED = "refused"


@dataclass(frozen=True)
class Format:
    """One kind of saved file.

    Attributes:
        name: in the counts.
        make: writes a good file, or a folder of files, into an empty folder; returns what `read`
            takes.
        read: the reader under test; it is given the path that `make` returned.
        use: works with what `read` returned, in a scratch folder; may raise `InputError`.
        files: which files are damaged, as a pattern inside the folder.
        exact: whether a refusal has to name the damaged file itself; else what `make` returned
            will do.
        weight: its share of a campaign, beside that of the other formats.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    use: Callable[[Any, Path], None] = lambda value, scratch: None
    files: str = "**/*"
    exact: bool = False
    weight: float = 1.0


def damaged(good: bytes, rng: Random) -> tuple[str, bytes | None]:
    """A damaged copy of a file.

    Args:
        good: its content.
        rng: decides everything.

    Returns:
        What was done, and the content; None: a folder stands in the file's place.
    """
    choice = rng.random()
    if choice < 0.02:
        return "a folder", None
    if choice < 0.08 or not good:
        name = rng.choice(list(FOREIGN))
        return name, FOREIGN[name]
    if choice < 0.65:
        if is_safetensors(good):
            damage = rng.choice((tensor_damage, tensor_damage, tensor_damage, header_damage))
            return damage.__name__, damage(good, rng)
        if is_json(good):
            return "json_damage", json_damage(good, rng)
    damage = rng.choice(BYTES)
    return damage.__name__, damage(good, rng)


@contextlib.contextmanager
def bounded_memory(extra: int = MOST_MEMORY) -> Iterator[None]:
    """Allocations fail that need `extra` bytes more than the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + extra
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def problem_of(line: str, names: Sequence[Path]) -> str:
    """What is wrong with the line of a refusal; empty if nothing is.

    Args:
        line: the message.
        names: files of which it has to name one; none: it need not.
    """
    for path in names:
        line = line.replace(f"{path.parent}{os.sep}", "")
    if not line.isprintable():
        return f"control characters in {line[:600]!r}"
    if len(line) > LONGEST_LINE:
        return f"{len(line)} characters: {line[:600]}"
    if names and not any(path.name in line for path in names):
        return f"no file is named: {line}"
    return ""


def outcome(case: Format, path: Path, names: Sequence[Path], scratch: Path) -> str:
    """Read and use a file, under the law; "loaded", "refused", or how the law is broken.

    Args:
        case: the format.
        path: what is read.
        names: files of which a refusal has to name one.
        scratch: an empty folder for what uses the value.
    """
    begin = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        end = _read_and_used(case, path, names, scratch)
    seconds = time.process_time() - begin
    if seconds > MOST_SECONDS:
        return f"{end} after {seconds:.1f} s of the processor"
    if len(caught) > MOST_WARNINGS:
        return f"{len(caught)} warnings, such as {caught[0].message}"
    return end


def _read_and_used(case: Format, path: Path, names: Sequence[Path], scratch: Path) -> str:
    try:
        value = case.read(path)
    except kvlens.InputError as error:
        return problem_of(str(error), names) or REFUSED
    except Exception as error:
        return f"read: {_shown(error)}"
    try:
        case.use(value, scratch)
    except kvlens.InputError as error:
        return problem_of(str(error), ()) or LOADED
    except Exception as error:
        return f"used: {_shown(error)}"
    return LOADED


def _shown(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}: {str(error)[:300]!r}"


@dataclass(frozen=True)
class Broken:
    """A case in which the law does not hold.

    Attributes:
        number: of the case.
        file: what was damaged.
        damage: how.
        problem: what happened.
        content: of the damaged file.
    """

    number: int
    file: Path
    damage: str
    problem: str
    content: bytes | None

    def __str__(self) -> str:
        return f"{self.number}, {self.damage} of {self.file.name}: {self.problem}"


def cases(
    case: Format, seed: int, numbers: Iterable[int], folder: Path
) -> Iterator[tuple[str, Broken | None]]:
    """Damage one file of a format, read it, and mend it again, again and again.

    Args:
        case: the format.
        seed: of every decision.
        numbers: of the cases.
        folder: empty, best in memory.

    Yields:
        How each ended (loaded, refused or broken), and what broke.
    """
    home, scratch = folder / "home", folder / "scratch"
    home.mkdir(parents=True)
    path = case.make(home)
    good = {file: file.read_bytes() for file in sorted(home.glob(case.files)) if file.is_file()}
    first_end = outcome(case, path, [path], _empty(scratch))
    assert first_end == LOADED, f"{case.name}, the good file: {first_end}"
    for number in numbers:
        rng = Random(f"{seed}/{case.name}/{number}")
        file = rng.choice(list(good))
        damage, content = damaged(good[file], rng)
        _put(file, content)
        names = [file] if case.exact else [file, path]
        end = outcome(case, path, names, _empty(scratch))
        _put(file, good[file])
        broken = end not in (LOADED, REFUSED)
        yield (("broken", Broken(number, file, damage, end, content)) if broken else (end, None))


def _put(file: Path, content: bytes | None) -> None:
    """Make a file with this content, or a folder (None), whatever was there."""
    if file.is_dir():
        file.rmdir()
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content)


def _empty(folder: Path) -> Path:
    """The folder, made anew if anything is in it."""
    if folder.exists() and any(folder.iterdir()):
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    return folder


def campaign_of(
    formats: Sequence[Format], seed: int, n: int, folder: Path, only: str = ""
) -> Counter[str]:
    """Try about `n` damaged files, the formats in equal parts.

    Args:
        formats: what is tried, each by its weight.
        seed: of every decision.
        n: how many in all.
        folder: empty, best in memory; the working folder while it runs.
        only: one case, ``FORMAT:NUMBER`` as a failure names it.

    Returns:
        "FORMAT loaded" and "FORMAT refused" -> how often.

    Raises:
        AssertionError: for the first case that breaks the law, with what makes it again.
    """
    counts: Counter[str] = Counter()
    whole = sum(case.weight for case in formats)
    with _watched(folder):
        for case in formats:
            numbers = range(math.ceil(n * case.weight / whole))
            if only:
                name, _, number = only.rpartition(":")
                numbers = range(int(number), int(number) + (name == case.name))
            for end, broken in cases(case, seed, numbers, folder / _folder_name(case)):
                assert broken is None, f"{case.name}:{broken} (seed {seed})"
                counts[f"{case.name} {end}"] += 1
    return counts


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Inside: bounded memory, and a working folder in which a pickle that runs leaves a trace."""
    with contextlib.chdir(folder), bounded_memory():
        yield
        assert not Path(TRAP).exists(), "a pickle was run"


def _folder_name(case: Format) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in case.name)


def survey(formats: Sequence[Format], seed: str = "1", n: str = "1000", only: str = "") -> None:
    """Print for each format how its cases ended, and each way to break the law with an example.

    Args:
        formats: what is tried.
        seed: of every decision.
        n: cases of each format.
        only: part of a format's name.
    """
    for case in formats:
        if only not in case.name:
            continue
        ends: Counter[str] = Counter()
        ways: dict[str, list[Broken]] = {}
        with tempfile.TemporaryDirectory(dir=memory_folder()) as name, _watched(Path(name)):
            for end, broken in cases(case, int(seed), range(int(n)), Path(name, "files")):
                ends[end] += 1
                if broken:
                    ways.setdefault(re.sub(r"\d+", "N", broken.problem)[:120], []).append(broken)
        print(case.name, dict(ends))
        for way in sorted(ways.values(), key=len, reverse=True):
            print(f"  {len(way):5} x {way[0]}")


def memory_folder() -> str | None:
    """A folder in memory, where the system has one: thousands of files spare the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
