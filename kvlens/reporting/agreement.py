"""`kvlens.verify`: does what a result was made with still agree with what is here?

1. Find the files of kvlens at a path.
2. Read each, in itself.
3. Compare its model, texts and versions with those here.
4. Compare the files of one folder with each other.

It measures nothing, loads no weights and fetches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from kvlens.reporting.examining import Examined, examine
from kvlens.reporting.mteb_results import FiledResults
from kvlens.reporting.origin import LookUps, Surroundings, origin_checks, version_checks
from kvlens.reporting.relations import relation_checks
from kvlens.reporting.saved_files import SavedFile, saved_files
from kvlens.reporting.verification import Check, Verification, in_file
from kvlens.store.checking import arguments, path
from kvlens.store.here import bases_of


@arguments(path=path)
def verify(path: str | os.PathLike[str]) -> Verification:
    """Compare saved results with what they were made with, as far as it is here.

    Args:
        path: a file that kvlens wrote (a result, vectors, a page), what a stopped run left
            (``.part``), a run folder, or a folder that holds many of them.

    Returns:
        A check for each thing compared: files that are whole, models by name and revision, texts by
        their hash, versions, and, of a folder, whether its files were made of one another.

    Raises:
        InputError: where there is nothing, or nothing of kvlens.
    """
    path = Path(path)
    look_ups = LookUps()
    checks: list[Check] = []
    files = sorted(saved_files(path), key=lambda file: (file.home, file.path))
    for _, group in groupby(files, key=lambda file: file.home):
        checks += _home_checks(list(group), path, look_ups)
    return Verification(str(path), tuple(checks))


def _home_checks(files: Sequence[SavedFile], path: Path, look_ups: LookUps) -> Iterator[Check]:
    """The checks of the files of one folder, those of a file together."""
    examined = [examine(file) for file in files]
    commands = tuple(each.command for each in examined if each.command)
    around = Surroundings(bases_of(files[0].home), commands, look_ups)
    between: dict[Path, list[Check]] = {}
    for each, check in relation_checks(examined):
        between.setdefault(each.file.path, []).append(check)
    for each in examined:
        alone = [*each.checks, *_origin(each, around)]
        yield from in_file(alone + between.get(each.file.path, []), _shown(each.file, path))


def _origin(each: Examined, around: Surroundings) -> list[Check]:
    if each.has_origin:
        return origin_checks(each.value, around)
    if isinstance(each.value, FiledResults):
        return version_checks(each.value.package_versions)
    return []


def _shown(file: SavedFile, path: Path) -> str:
    """The name of a file inside what is verified."""
    inside = file.path != path and path.is_dir()
    return str(file.path.relative_to(path)) if inside else file.path.name
