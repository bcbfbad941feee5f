"""Whole vectors: whether a file of vectors is as it was written, read block by block.

`load_vectors` finds the same out about what it holds in memory.
"""

from __future__ import annotations

from pathlib import Path

from kvlens.embedding.containers import CONTAINERS, ending
from kvlens.embedding.parts import damage_in
from kvlens.embedding.table_hash import TableHash
from kvlens.embedding.vectors import VectorsInfo, check_rows, refusal


def check_whole(path: Path) -> VectorsInfo:
    """The facts of vectors, all of which are held to their hash; a block of rows is held at a time.

    Args:
        path: the file, or a folder of parts.

    Returns:
        The facts.

    Raises:
        InputError: as `load_vectors`.
    """
    try:
        info = _of_folder(path) if path.is_dir() else _of_file(path)
    except Exception as error:  # the readers' errors share no base
        raise refusal(path, error) from error
    return info


def _of_folder(path: Path) -> VectorsInfo:
    damage = damage_in(path)
    if damage:
        raise ValueError(damage)
    return VectorsInfo.model_validate(CONTAINERS[ending(path)].read_info(path))


def _of_file(path: Path) -> VectorsInfo:
    container = CONTAINERS[ending(path)]
    facts = container.read_info(path)
    info = VectorsInfo.model_validate(facts)
    table_hash = TableHash()
    n = 0
    for rows in container.blocks(path):
        check_rows(rows, info)
        table_hash.add(rows)
        n += len(rows)
    if n != info.rows:
        raise ValueError(f"it has {n} rows, where {info.rows} were written")
    if info.sha256 and info.sha256 != table_hash.seal(facts, container.ids(path)):
        raise ValueError("the hash in it is of other content")
    return info
