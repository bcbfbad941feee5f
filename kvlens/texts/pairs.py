"""Score: Spearman correlation of cosine similarities with human judgements on a file of sentence pairs.

A quick look for choosing settings on validation data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvlens.store.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with their human scores ``[n]``."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: np.ndarray


def read_pairs(path: str | Path, n: int | None = None) -> Pairs:
    """n rows, evenly spread, of a JSONL file with sentence1, sentence2 and score (mteb's STS schema).

    Evenly spread, since such files are sorted by genre: the first rows would be another task than the whole.

    Raises InputError for a file that cannot be read, a malformed line (by number), or fewer than 10 pairs.
    """
    rows: list[tuple[str, str, float]] = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                a, b, value = row["sentence1"], row["sentence2"], float(row["score"])
                if not (isinstance(a, str) and isinstance(b, str) and np.isfinite(value)):
                    raise ValueError("two strings and a finite number")
                rows.append((a, b, value))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}, line {len(rows) + 1}: needs sentence1, sentence2 and score ({error!r})"
        ) from error
    if n is not None and n < len(rows):
        rows = [rows[i * len(rows) // n] for i in range(n)]
    if len(rows) < 10:
        raise InputError(f"{path} has {len(rows)} pairs, at least 10 are needed")
    if len({score for _, _, score in rows}) < 2:
        raise InputError(f"{path}: all {len(rows)} scores are equal, nothing can be ranked by them")
    first, second, scores = zip(*rows, strict=True)
    return Pairs(first, second, np.array(scores))
