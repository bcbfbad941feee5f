"""Examining: one file of kvlens, read, with the checks that need no other file.

A damaged one is a check that differs, not an error.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kvlens.embedding.vectors import Vectors
from kvlens.models.info import ModelInfo
from kvlens.reporting.mteb_results import read_results
from kvlens.reporting.saved_files import SavedFile
from kvlens.reporting.verification import Check
from kvlens.store.artifact import first_problem
from kvlens.store.chunk_index import chunk_problems
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file
from kvlens.store.notices import Notice
from kvlens.store.opening import VECTORS, open_saved
from kvlens.store.part import RUN
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.shards import TraceIndex
from kvlens.tracing.trace import Trace

# A row of a page's table of files: name and hash.
PAGE_ROW = re.compile(r"<tr><th>([^<]*)</th><td>sha256 <code>([0-9a-f]{64})</code></td></tr>")
COMPARED_LATER = "those of a stopped sweep are compared when it is resumed"
MISSING = "it is not beside the page"


@dataclass(frozen=True)
class Started:
    """What a stopped run was started with, whatever it computes.

    Attributes:
        format: of what it makes.
        model: the model.
        versions: package -> version.
        texts: what is embedded; None where it is not a file's texts in their order.
        command: the command line; empty where there was none.
    """

    format: str
    model: ModelInfo
    versions: dict[str, str]
    texts: TextsInfo | None = None
    command: str = ""


STARTED = TypeAdapter(Started)


@dataclass(frozen=True)
class Examined:
    """A file with what was read of it.

    Attributes:
        file: where it is.
        value: the result; of vectors, their `VectorsInfo`; of a stopped run, `Started`; of mteb's
            folder, `FiledResults`; None of a page, and of what is not readable.
        checks: of the file alone.
    """

    file: SavedFile
    value: Any
    checks: tuple[Check, ...]

    @property
    def has_origin(self) -> bool:
        """Whether it says of what model and by which versions it was made."""
        return hasattr(self.value, "model") and hasattr(self.value, "versions")

    @property
    def command(self) -> str:
        """The command line that made it; empty where it records none."""
        return getattr(self.value, "command", None) or ""


def examine(file: SavedFile) -> Examined:
    """Read a file of kvlens, whatever is in it."""
    try:
        return READERS[file.kind](file)
    except (InputError, OSError) as error:
        damage = Check("file", "file", "differs", reason=f"not readable: {error}")
        return Examined(file, None, (damage,))


def _result(file: SavedFile) -> Examined:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        value = open_saved(file.path)
    what = "vectors" if isinstance(value, Vectors) else value.noun()
    checks = [Check("file", "file", "agrees", reason=what)]
    # What a reader gives notice of it could not tell, such as whether all is as it was written.
    notices = [each.message for each in warned if issubclass(each.category, Notice)]
    checks += [Check("file", "parts", "cannot tell", reason=str(notice)) for notice in notices]
    if isinstance(value, Trace) and file.path.suffix.lower() == ".json":
        checks += _shard_checks(file.path)
    return Examined(file, value.info if isinstance(value, Vectors) else value, tuple(checks))


def _shard_checks(path: Path) -> Iterator[Check]:
    """The files of a trace in shards, which its index names with their hashes."""
    shards = TraceIndex.load(path).shards
    changed = [each for each in shards if sha256_file(path.parent / each.file) != each.sha256]
    for each in changed:
        reason = f"{each.file} is damaged: its hash is another"
        yield Check("file", "shard", "differs", reason=reason)
    if not changed:
        yield Check("file", "shards", "agrees", reason=str(len(shards)))


def _part(file: SavedFile) -> Examined:
    """What a stopped run left: what it is made with, and its finished chunks."""
    run = file.path / RUN
    try:
        value = STARTED.validate_json(run.read_bytes())
    except ValidationError as error:
        reason = first_problem(error)
        raise InputError(f"{run} does not say what the run was started with: {reason}") from error
    checks = list(_chunk_checks(file.path))
    if value.format not in (VECTORS, TraceIndex.model_fields["format"].default):
        value = replace(value, texts=None)
        checks.append(Check("texts", "texts", "cannot tell", reason=COMPARED_LATER))
    return Examined(file, value, tuple(checks))


def _chunk_checks(part: Path) -> Iterator[Check]:
    problems = chunk_problems(part)
    for name, problem in problems.items():
        if problem:
            yield Check("file", "chunk", "differs", reason=f"{name} {problem}")
    states = list(problems.values())
    whole = states.count("")
    without = states.count(None)
    if whole:
        yield Check("file", "chunks", "agrees", reason=str(whole))
    if without:
        reason = f"{without} of {len(states)} chunks carry no hash"
        yield Check("file", "chunks", "cannot tell", reason=reason)


def _results(file: SavedFile) -> Examined:
    filed = read_results(file.path)
    checks = [Check("file", "result", "differs", reason=problem) for problem in filed.problems]
    checks.append(Check("file", "results", "agrees", reason=str(len(filed.results))))
    if filed.unsealed:
        reason = f"{filed.unsealed} of {len(filed.results)} results carry no hash of their items"
        checks.append(Check("file", "items", "cannot tell", reason=reason))
    return Examined(file, filed, tuple(checks))


def _page(file: SavedFile) -> Examined:
    """A page names the files that it was made of, with their hashes."""
    text = file.path.read_text(encoding="utf-8", errors="replace")
    rows = [(html.unescape(name), digest) for name, digest in PAGE_ROW.findall(text)]
    checks = [_part_of_page(file.path.parent, name, digest) for name, digest in rows]
    if not checks:
        checks = [Check("file", "file", "differs", reason="the page names no file, it may be cut")]
    return Examined(file, None, tuple(checks))


def _part_of_page(folder: Path, name: str, digest: str) -> Check:
    path = folder / name
    inside = path.resolve().is_relative_to(folder.resolve())
    if not inside or not path.is_file():
        return Check("relation", name, "cannot tell", digest, reason=MISSING)
    changed = f"{name} has changed since the page was made: make it again"
    return Check.compare("relation", name, digest, sha256_file(path), changed)


READERS: dict[str, Callable[[SavedFile], Examined]] = {
    "result": _result,
    "part": _part,
    "results": _results,
    "page": _page,
}
