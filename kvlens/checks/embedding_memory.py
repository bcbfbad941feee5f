"""Embedding memory: what a process holds of its own while it embeds few texts, and many.

Each number of texts is embedded by a tiny model in a process of its own, from a file into a file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from kvlens.checks.peak_memory import PeakMemory, private
from kvlens.checks.tiny_model import made_texts, save_tiny_model

MIB = 2**20
CODE = """
import sys
import kvlens
model, source, target = sys.argv[1:]
kvlens.embed_file(kvlens.Encoder(kvlens.load(model), "mean"), source, target)
"""


def embedding_memory(rows: Sequence[int], ending: str = ".parquet") -> list[dict[str, Any]]:
    """The peak of the memory that is a process' own (USS: no mapped page that others have too).

    Args:
        rows: how many texts each process embeds.
        ending: of the file of vectors.

    Returns:
        What was measured, a row a process; and how much the largest peak is above the first.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tiny_model(folder / "model")
        results = [_embedded(folder, n, ending) for n in rows]
    peaks = [result["MiB"] for result in results]
    above = {"measured": "the highest peak above the first", "MiB": round(max(peaks) - peaks[0], 1)}
    return [*results, above]


def _embedded(folder: Path, n: int, ending: str) -> dict[str, Any]:
    """Embed `n` texts in a new process, and watch it."""
    source = folder / f"{n}.txt"
    target = folder / f"{n}{ending}"
    with source.open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in made_texts(n))
    start = time.monotonic()
    command = [sys.executable, "-c", CODE, str(folder / "model"), str(source), str(target)]
    with (
        subprocess.Popen(command) as process,
        PeakMemory(psutil.Process(process.pid), private) as peak,
    ):
        code = process.wait()
    if code:
        raise RuntimeError(f"embedding {n} texts ended with the code {code}")
    return {
        "measured": "peak of its own memory while a process embeds",
        "texts": n,
        "into": ending,
        "MiB": round(peak.bytes / MIB, 1),
        "seconds": round(time.monotonic() - start),
    }
