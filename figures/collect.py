"""Takes what the figures need from a model's run folder, and makes it small.

``python figures/collect.py RUN DATA``; ``figures/data.sh`` makes the runs.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from saved import KINDS

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy

KEPT_ARRAYS = re.compile(r"beta\.\w+\.mean|ends.*|before|after|beta")


def collect(run: str | Path, data: str | Path) -> list[Path]:
    """Copy the results in `run` to ``DATA/KIND_MODEL``.

    They lose what no figure shows (single heads, cosines of a sweep), and their commands lose
    where they wrote.

    Args:
        run: a model's run folder.
        data: the folder of saved results.

    Returns:
        What was written, in the order of `KINDS`.

    Raises:
        InputError: a file cannot be read or written.
    """
    written = []
    for kind, (result, file) in KINDS.items():
        path = Path(run) / file
        if path.exists():
            loaded = result.load(path)
            name = f"{kind}_{_plain_name(loaded, path)}{path.suffix}"
            small = _without_what_is_not_drawn(loaded, file)
            written.append(small.save(Path(data) / name))
    return written


def _plain_name(result: Any, path: Path) -> str:
    """The name of its model; raises InputError for one that could lead out of the data folder."""
    name = result.model.name
    if not re.fullmatch(r"[\w.+@-]+", name):
        raise InputError(f"{path} is of a model whose name is no plain word: {shown(name)}")
    return name


def _without_what_is_not_drawn(result: Any, file: str) -> Any:
    if isinstance(result, AttentionShift | AttentionPatterns):
        return replace(result, arrays=_means_over_heads(result.arrays))
    changes: dict[str, Any] = {}
    if getattr(result, "command", None):
        changes["command"] = _placeless(result, file)
    if isinstance(result, KVLens):
        changes["spectra"] = _whole_ranks(result)
    if isinstance(result, Sweep):
        changes["windows"] = tuple(_without(w, "cosines") for w in result.windows)
        changes["sets"] = ()
        changes["plain_cosines"] = ()
        changes["human"] = ()
    if isinstance(result, ReadoutSweep):
        changes["blocks"] = tuple(_without(block, "cosines") for block in result.blocks)
        changes["human"] = ()
    return result.model_copy(update=changes)


def _means_over_heads(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that are drawn, with one head, float32."""
    means = {}
    for name, values in arrays.items():
        if KEPT_ARRAYS.fullmatch(name):
            heads = -1 if "ends" in name else 1
            mean = values.mean(heads, keepdims=True)
            means[name] = mean.astype(np.float32)
    return means


def _whole_ranks(lens: KVLens) -> tuple[Any, ...]:
    """The spectra of all heads together, as numbers without curves."""
    return tuple(_without(spectrum, "energy") for spectrum in lens.spectra if spectrum.head is None)


def _without(record: Any, field: str) -> Any:
    """A copy whose `field` is empty."""
    return record.model_copy(update={field: ()})


def _placeless(result: Any, file: str) -> str:
    """The command as if it had written to ``runs/MODEL``, for the first time."""
    name = "sweep.json" if isinstance(result, Sweep | LayerStudy) else ""
    if isinstance(result, ReadoutSweep):
        name = file
    place = Path("runs", result.model.name, name or Path(file).parent)
    command = re.sub(" --(overwrite|resume)( |$)", r"\2", result.command)
    return re.sub(r" (-o|--output) \S+", f" -o {place.as_posix()}", command)


if __name__ == "__main__":
    collect(*sys.argv[1:])
