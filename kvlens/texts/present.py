"""Present texts: those that a result recorded, read here again by the readers that read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from kvlens.store.errors import InputError
from kvlens.store.files import sha256_texts
from kvlens.store.here import Here, places_of
from kvlens.texts.pairs import read_pairs
from kvlens.texts.readers import read_texts
from kvlens.texts.texts import Texts, TextsInfo
from kvlens.texts.wikipedia import ATTRIBUTION, articles_are_here, calibration_texts

# What `read_texts` records as the source: the file's name, its column, what was left out of it.
SKIPPED = r"(?P<skipped> \(\d+ bad rows skipped\))?"
TABLE = re.compile(r"(?P<name>.+), column (?P<column>.+?)" + SKIPPED, re.DOTALL)
LINES = re.compile(r"(?P<name>.*?)" + SKIPPED, re.DOTALL)
STANDARD_INPUT = "standard input"


def texts_here(info: TextsInfo, bases: Sequence[Path], commands: Iterable[str] = ()) -> Here:
    """The texts of a source as they are here.

    Args:
        info: what was recorded: the source is a file's name, without its folder.
        bases: the folders from which relative paths are tried.
        commands: command lines that may name the file with its folder.

    Returns:
        The hash of its texts, of the first `info.n`; of several files of that name, of one that
        has the recorded texts, if any does.
    """
    if ATTRIBUTION in info.source:
        return _passages(info)
    name, column, skips = _source(info.source)
    if name == STANDARD_INPUT:
        return Here(None, exists=False, note="they came from standard input")
    files = files_named(name, bases, commands)
    if not files:
        return Here(None, exists=False, note=f"no file of theirs is here: {info.source}")
    read = [_read(file, column, skips, info) for file in files]
    return next((each for each in read if each.content == info.sha256), read[0])


def _passages(info: TextsInfo) -> Here:
    if not articles_are_here():
        return Here(None, exists=False, note="the Wikipedia passages are not fetched here")
    try:
        return Here(calibration_texts(info.n).sha256, exists=True)
    except InputError as error:
        return Here(None, exists=False, note=str(error))


def _source(source: str) -> tuple[str, str | None, bool]:
    """The file's name, its column, and whether bad rows were left out."""
    match = TABLE.fullmatch(source) or LINES.fullmatch(source)
    if match is None:
        return source, None, False
    parts = match.groupdict()
    return parts["name"], parts.get("column"), parts["skipped"] is not None


def files_named(name: str, bases: Sequence[Path], commands: Iterable[str] = ()) -> list[Path]:
    """The files of a name that a result or its command line can mean.

    Args:
        name: of the file, without its folder.
        bases: the folders from which relative paths are tried.
        commands: command lines; a word of theirs that ends in the name goes first.
    """
    words = [word.rpartition("=")[2] for command in commands for word in _words(command)]
    paths = [word for word in words if Path(word).name == name]
    places = [place for path in [*paths, Path(name).name] for place in places_of(path, bases)]
    return [place for place in dict.fromkeys(places) if place.is_file()]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quote left open: not written by a command of ours
        return []


def _read(file: Path, column: str | None, skips: bool, info: TextsInfo) -> Here:
    """The texts of a file: embedding takes empty ones, recording refuses or skips them."""
    readings = []
    for empty in (True, False) if skips else (True,):
        try:
            texts = read_texts(file, column, info.n, skips, empty=empty)
        except InputError as error:
            readings.append(Here(None, exists=True, note=str(error), place=file))
        else:
            readings.append(_as_here(texts, file, info))
    return next((each for each in readings if each.content == info.sha256), readings[0])


def _as_here(texts: Texts, file: Path, info: TextsInfo) -> Here:
    note = ""
    if texts.n < info.n:
        note = f"{file} has {texts.n} texts, {info.n} were read"
    elif texts.sha256 != info.sha256:
        note = f"{file} has other texts"
    return Here(texts.sha256, exists=True, note=note, place=file)


def scores_here(
    name: str, human: Sequence[float], bases: Sequence[Path], commands: Iterable[str] = ()
) -> Here:
    """The human scores of a file of pairs as they are here.

    Args:
        name: of the file.
        human: the scores that were recorded, of as many pairs.
        bases: as in `texts_here`.
        commands: as in `texts_here`.

    Returns:
        As `texts_here`; the content is that of `scores_hash`.
    """
    files = files_named(name, bases, commands)
    if not files:
        return Here(None, exists=False, note=f"no file of theirs is here: {name}")
    wanted = scores_hash(human)
    read = [_read_scores(file, len(human)) for file in files]
    return next((each for each in read if each.content == wanted), read[0])


def _read_scores(file: Path, n: int) -> Here:
    try:
        scores = read_pairs(file, n).scores.tolist()
    except InputError as error:
        return Here(None, exists=True, note=str(error), place=file)
    note = "" if len(scores) == n else f"{file} has {len(scores)} pairs, {n} were read"
    return Here(scores_hash(scores), exists=True, note=note, place=file)


def scores_hash(scores: Sequence[float]) -> str:
    """The SHA-256 of human scores in their order."""
    return sha256_texts(str(float(score)) for score in scores)
