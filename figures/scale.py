"""Banking77 when embeddings are only made longer.

``python figures/scale.py DATA/Banking77Classification``

mteb's classifier is a logistic regression with a fixed penalty, so that the vectors' length decides
how much it fits. The first 8 training texts of each label, all test texts.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

import kvlens
from kvlens.embedding.cache import EmbeddingCache

TEXTS_A_LABEL = 8
STEPS = 100  # mteb's, after which the classifier stops, and warns
LENGTHS = (1, 10, 100)
METHODS = {"kv_embedding": (23, 27, 28, 29), "prompt_eol": None}


def read(folder: str, split: str) -> list[dict[str, Any]]:
    """The rows of a split, ``text`` and ``label`` each."""
    text = Path(folder, f"{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def first_of_each_label(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first `TEXTS_A_LABEL` rows of each label."""
    count: Counter[Any] = Counter()
    kept = []
    for row in rows:
        count[row["label"]] += 1
        if count[row["label"]] <= TEXTS_A_LABEL:
            kept.append(row)
    return kept


def column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def main(folder: str) -> None:
    """Print a line a method and length."""
    warnings.simplefilter("ignore")
    train = first_of_each_label(read(folder, "train"))
    test = read(folder, "test")
    lm = kvlens.load("smollm2-135m")
    cache = EmbeddingCache()
    for method, layers in METHODS.items():
        encoder = kvlens.Encoder(lm, method, layers)
        x = cache.encode(encoder, column(train, "text"))
        x_test = cache.encode(encoder, column(test, "text"))
        mean = np.linalg.norm(x, axis=1).mean()
        for length in LENGTHS:
            classifier = LogisticRegression(max_iter=STEPS)
            classifier.fit(length * x / mean, column(train, "label"))
            accuracy = 100 * classifier.score(length * x_test / mean, column(test, "label"))
            made = f"own mean length {mean:5.1f}, made {length:3}"
            print(f"{method:14} {made}: accuracy {accuracy:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
