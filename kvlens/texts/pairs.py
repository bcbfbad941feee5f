"""Pairs: a table file of sentences that people scored for their similarity, in mteb's STS schema.

It knows no score of ours; `evaluation.pair_score` and `studies` correlate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kvlens.store.arguments import shown, whole_number
from kvlens.store.errors import InputError, shortened
from kvlens.texts.columns import Columns, Row
from kvlens.texts.rows import TableFile
from kvlens.texts.texts import text_problem

COLUMNS = ("sentence1", "sentence2", "score")
FEWEST_PAIRS = 10


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with their human scores.

    Attributes:
        first: a sentence of each pair.
        second: the other one.
        scores: float64, higher for more alike.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: Float[np.ndarray, " n_pairs"]

    @property
    def distinct(self) -> list[str]:
        """The texts of both sides, each once, in their order."""
        return list(dict.fromkeys([*self.first, *self.second]))


def read_pairs(path: str | Path, n: int | None = None) -> Pairs:
    """Sentence pairs of a table file with the columns sentence1, sentence2 and score.

    Args:
        path: .jsonl, .csv, .tsv or .parquet, perhaps with .gz or .zst; an address such as
            ``s3://...`` or ``hf://ORG/NAME``; ``-`` is JSONL on standard input.
        n: how many rows, evenly spread over the file, since such files are sorted by genre: the
            first rows would be another task than the whole. Default all.

    Returns:
        The pairs, in the order of the file.

    Raises:
        InputError: for a file that cannot be read, a malformed row (by its line), fewer than 10
            pairs, and scores that are all equal.
    """
    if n is not None:
        n = whole_number("n", n, least=1)
    name, pairs = _read_all(path)
    if n is not None and n < len(pairs):
        pairs = [pairs[i * len(pairs) // n] for i in range(n)]
    if len(pairs) < FEWEST_PAIRS:
        raise InputError(f"{name} has {len(pairs)} pairs, at least {FEWEST_PAIRS} are needed")
    first, second, scores = zip(*pairs, strict=True)
    if len(set(scores)) < 2:
        raise InputError(
            f"{name}: all {len(pairs)} scores are equal, nothing can be ranked by them"
        )
    return Pairs(first, second, np.array(scores))


def _read_all(path: str | Path) -> tuple[str, list[tuple[str, str, float]]]:
    """What the file is called in messages, and its pairs."""
    try:
        file = TableFile.at(path, named=COLUMNS[0])
        rows = list(file.rows(Columns(COLUMNS)))
    except InputError as error:
        raise InputError(shortened(f"cannot read the pairs: {error}")) from None
    return file.name, [_pair(row, file.name) for row in rows]


def _pair(row: Row, name: str) -> tuple[str, str, float]:
    problem = _problem(row)
    if problem or row.fields is None:
        message = f"{name}, {row.place}: needs sentence1, sentence2 and score (the row {problem})"
        raise InputError(shortened(message))
    first, second, score = (row.fields[column] for column in COLUMNS)
    return first, second, float(score)


def _problem(row: Row) -> str:
    """Why a row is no pair, as the rest of a sentence on it; empty when it is one."""
    if row.problem or row.fields is None:
        return row.problem
    first, second, score = (row.fields[column] for column in COLUMNS)
    problem = text_problem(first) or text_problem(second)
    if problem:
        return problem
    try:
        is_number = math.isfinite(float(score)) and not isinstance(score, bool)
    except (TypeError, ValueError, OverflowError):
        is_number = False
    return "" if is_number else f"has the score {shown(score)}, not a finite number"
