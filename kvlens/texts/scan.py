"""Scan: what a first reading of many texts finds out, none of which it keeps.

The texts are counted and hashed, every row is checked, and ids that come twice are found by a hash
of 8 bytes each.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kvlens.store.errors import InputError
from kvlens.store.files import TextsHash
from kvlens.texts.text_file import Entries, Entry, skipped_words
from kvlens.texts.texts import TextsInfo

HASH_BYTES = 8


class Repeated(NamedTuple):
    """Ids that more than one row has.

    Attributes:
        rows: how many rows have the id of an earlier row.
        example: the id that most rows have.
        n: how many rows have that.
    """

    rows: int = 0
    example: str = ""
    n: int = 0


@dataclass(frozen=True)
class Scan:
    """What a first reading finds out.

    Attributes:
        info: what a saved result says about the texts.
        skipped: how many bad rows are left out.
        id_characters: of the ids as one list in JSON.
        repeated: ids that more than one row has.
    """

    info: TextsInfo
    skipped: int
    id_characters: int
    repeated: Repeated


def scan(texts: Entries) -> Scan:
    """Read all texts once.

    Args:
        texts: with ids.

    Returns:
        What there is to know before the second reading.

    Raises:
        InputError: as `Entries.entries`, and where there is no text.
    """
    texts_hash = TextsHash()
    hashes = array("Q")
    id_characters = 0
    skipped = 0
    for entry in texts.entries():
        if entry.problem:
            skipped += 1
            continue
        texts_hash.add(entry.text)
        id_characters += len(json.dumps(entry.id)) + len(", ")
        if not entry.is_numbered:
            hashes.append(_hash_of(entry))
    words = skipped_words(skipped)
    if not texts_hash.n:
        raise InputError(f"{texts.name} has no texts{words}")
    info = TextsInfo(source=texts.source + words, n=texts_hash.n, sha256=texts_hash.hexdigest())
    return Scan(info, skipped, id_characters, _repeated(texts, hashes))


def usable(texts: Entries) -> Iterator[Entry]:
    """The texts without the rows that are left out."""
    return (entry for entry in texts.entries() if not entry.problem)


def _hash_of(entry: Entry) -> int:
    digest = hashlib.blake2b(entry.id.encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "little")


def _repeated(texts: Entries, hashes: array[int]) -> Repeated:
    """What comes twice; the most frequent id, the first of several, is looked up in the texts."""
    if not hashes:
        return Repeated()
    ordered = np.frombuffer(hashes, np.uint64)
    ordered.sort()  # in place: there may be many
    is_new = ordered[1:] != ordered[:-1]
    if is_new.all():
        return Repeated()
    starts = np.append(0, np.flatnonzero(is_new) + 1)
    counts = np.diff(np.append(starts, len(ordered)))
    most = int(counts.max())
    frequent = {int(value) for value in ordered[starts[counts == most]]}
    example = next(entry.id for entry in usable(texts) if _hash_of(entry) in frequent)
    return Repeated(len(ordered) - len(starts), example, most)
