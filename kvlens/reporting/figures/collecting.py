"""Collecting: takes what figures need from a model's run folder, and makes it small."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.reporting.figures.saved import KINDS, Kind, Told
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep

IN_PYTHON = "(made in Python, by no command)"
KEPT_ARRAYS = re.compile(r"beta\.\w+\.mean|ends.*|before|after|beta")


def as_typed(result: Any, file: str) -> str:
    """The command of a result as it records it."""
    return result.command or IN_PYTHON


def collect(
    run: str | Path, data: str | Path, name: str | None = None, told: Told = as_typed
) -> list[Path]:
    """Copy the results in `run` to ``DATA/KIND_MODEL``.

    They lose what no figure shows (single heads, cosines of a sweep).

    Args:
        run: a model's run folder.
        data: the folder of saved results.
        name: what stands for the model in the names of files; default: its own name, which has to
            be a plain word.
        told: tells the command that a caption will show, of a result and its place in a run folder.

    Returns:
        What was written, in the order of `KINDS`.

    Raises:
        InputError: a file cannot be read or written.
    """
    written = []
    for kind_name, kind in KINDS.items():
        path = place_in(Path(run), kind)
        if path is not None:
            loaded = kind.result.load(path)
            file = f"{kind_name}_{name or _plain_name(loaded, path)}{path.suffix}"
            small = _without_what_is_not_drawn(loaded, kind.file, told)
            written.append(small.save(Path(data) / file))
    return written


def place_in(run: Path, kind: Kind) -> Path | None:
    """Where a run folder has results of a kind; None where it has none."""
    places = [run / file for file in (kind.file, kind.also) if file]
    return next((place for place in places if place.is_file()), None)


def _plain_name(result: Any, path: Path) -> str:
    """The name of its model; raises InputError for one that could lead out of the data folder."""
    name = result.model.name
    if not re.fullmatch(r"[\w.+@-]+", name):
        raise InputError(f"{path} is of a model whose name is no plain word: {shown(name)}")
    return name


def _without_what_is_not_drawn(result: Any, file: str, told: Told) -> Any:
    if isinstance(result, AttentionShift | AttentionPatterns):
        return replace(result, arrays=_means_over_heads(result.arrays))
    changes: dict[str, Any] = {}
    if "command" in type(result).model_fields:
        changes["command"] = told(result, file)
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
