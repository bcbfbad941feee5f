"""The paper's commands: attention results record none, others say where they wrote."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.reporting.figures.saved import KINDS
from kvlens.store.layer_ranges import short
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy


def attention_command(result: AttentionShift | AttentionPatterns, kind: str) -> str:
    """The command of an attention result, made by ``data.sh`` with default settings."""
    if isinstance(result, AttentionPatterns):
        given = f"--text {shlex.quote(_own_text(result))}"
    else:
        given = f"--texts wikipedia --n {result.texts.n} --span {result.span}"
    name = result.model.name
    place = Path("runs", name, KINDS[kind].file).parent
    layers = short(result.layers)
    return f"kvlens attend {name} --layers {layers} {given} -o {place.as_posix()}"


def _own_text(patterns: AttentionPatterns) -> str:
    """The text without its prompt."""
    whole = "".join(patterns.tokens)
    return whole.removeprefix(patterns.prompt.prefix).removesuffix(patterns.prompt.suffix)


def placeless(result: Any, file: str) -> str | None:
    """The command of a result as if it had written to ``runs/MODEL``, for the first time.

    Args:
        result: with a command, or without one.
        file: its place in a run folder.
    """
    if not result.command:
        return result.command
    name = "sweep.json" if isinstance(result, Sweep | LayerStudy) else ""
    if isinstance(result, ReadoutSweep):
        name = file
    place = Path("runs", result.model.name, name or Path(file).parent)
    command = re.sub(" --(overwrite|resume)( |$)", r"\2", result.command)
    return re.sub(r" (-o|--output) \S+", f" -o {place.as_posix()}", command)
