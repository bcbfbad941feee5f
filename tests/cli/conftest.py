"""Two small models, a file of texts, and the terminal on them."""

import random
import shlex

import pytest
from zoo import tiny

from kvlens.cli import main

WORDS = [
    "river",
    "stone",
    "light",
    "music",
    "paper",
    "engine",
    "garden",
    "silver",
    "window",
    "market",
    "winter",
]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with two small models and a file of 80 distinct texts."""
    folder = tmp_path_factory.mktemp("cli")
    for architecture in ("llama", "gpt2"):
        lm = tiny(architecture)
        lm.hf.save_pretrained(folder / architecture)
        lm.tokenizer.save_pretrained(folder / architecture)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) + f" {i}." for i in range(80)]
    rows = [f"{i},{text}" for i, text in enumerate(texts)]
    (folder / "texts.txt").write_text("\n".join(texts))
    (folder / "rows.csv").write_text("\n".join(["id,body", *rows]))
    return folder


@pytest.fixture(scope="session")
def run(place):
    """Run a command line; ``@`` in it stands for the folder."""
    return lambda line: main(shlex.split(line.replace("@", f"{place}/")))
