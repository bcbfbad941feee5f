"""Texts for engines: more than a few chunks of them, some of them equal."""

import json
import random

LAYERS = (1, 2)
WORDS = ["river", "stone", "light", "music", "paper", "engine", "garden", "silver", "window"]


def some_texts(n, seed=0):
    """Short texts; every fifth is that of the row before."""
    rng = random.Random(seed)
    texts = []
    for i in range(n):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 6))) + f" {i}"
        texts.append(texts[-1] if i % 5 == 4 else text)
    return texts


def save_texts(path, n):
    """Texts as a file, with ids where it is .jsonl."""
    texts = some_texts(n)
    rows = [json.dumps({"id": f"doc-{i}", "text": text}) for i, text in enumerate(texts)]
    path.write_text("\n".join(rows if path.suffix == ".jsonl" else dict.fromkeys(texts)))
    return path
