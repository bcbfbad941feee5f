"""Banking77 when embeddings are only made longer: ``python figures/scale.py DATA/Banking77Classification``.

mteb's classifier is a logistic regression with a fixed penalty, so that the vectors' length decides how much it fits.
The first 8 training texts of each label, all test texts.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import kvlens
from kvlens.embedding.cache import EmbeddingCache

warnings.simplefilter("ignore")  # it stops after mteb's 100 steps, and says so
train, test = (
    [
        json.loads(line)
        for line in (Path(sys.argv[1]) / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for split in ("train", "test")
)
count: dict = {}
for row in train:
    row["number"] = count[row["label"]] = count.get(row["label"], 0) + 1
train = [row for row in train if row["number"] <= 8]
lm, cache = kvlens.load("smollm2-135m"), EmbeddingCache()
for method, layers in (("kv_embedding", (23, 27, 28, 29)), ("prompt_eol", None)):
    encoder = kvlens.Encoder(lm, method, layers)
    x, x_test = (cache.encode(encoder, [row["text"] for row in rows]) for rows in (train, test))
    own = np.linalg.norm(x, axis=1).mean()
    for length in (1, 10, 100):
        fitted = LogisticRegression(max_iter=100).fit(
            length * x / own, [row["label"] for row in train]
        )
        accuracy = 100 * fitted.score(length * x_test / own, [row["label"] for row in test])
        print(f"{method:14} own mean length {own:5.1f}, made {length:3}: accuracy {accuracy:.1f}")
