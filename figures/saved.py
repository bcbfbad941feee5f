"""The saved results behind the figures: their kinds, how they are loaded, what is said of each."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.method_geometry import Geometry
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import short
from kvlens.store.provenance import Provenance
from kvlens.studies.decision import Decision
from kvlens.studies.effects import Effects
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy


class Kind(NamedTuple):
    """A kind of results, which lies in figures/data as KIND_MODEL.

    Attributes:
        result: its class.
        file: its place in a run folder.
    """

    result: Any
    file: str


KINDS = {
    "layers": Kind(LayerSet, "layers.json"),
    "shift-prompted": Kind(AttentionShift, "all-prompted/shift.safetensors"),
    "shift-text": Kind(AttentionShift, "all-text/shift.safetensors"),
    "shift-chosen": Kind(AttentionShift, "chosen-text/shift.safetensors"),
    "patterns": Kind(AttentionPatterns, "patterns/patterns.safetensors"),
    "lens": Kind(KVLens, "lens/kv_lens.json"),
    "geometry": Kind(Geometry, "lens/geometry.json"),
    "scores": Kind(Scores, "scores.json"),
    "retrieval": Kind(Scores, "retrieval/scores.json"),
    "lengths": Kind(Scores, "lengths/scores.json"),
    "longest": Kind(Scores, "longest/scores.json"),  # more lengths, perhaps of fewer methods
    "sweep": Kind(Sweep, "sweep.json"),
    "study": Kind(LayerStudy, "study.json"),
    "readout": Kind(ReadoutSweep, "readout.json"),
    "effects": Kind(Effects, "effects/effects.json"),
    "controls-long": Kind(Scores, "controls-long/scores.json"),
    "decision": Kind(Decision, "decision.json"),
    "decision-news": Kind(Decision, "news/decision.json"),
    "decision-pairs": Kind(Decision, "pairs/decision.json"),
}


class Drawn(NamedTuple):
    """A figure, and what its caption adds to the docstring of the function that drew it.

    Attributes:
        figure: matplotlib's.
        numbers: what is to be read off, in words; may be empty.
        sources: the data, with the commands that made them.
    """

    figure: Any
    numbers: str
    sources: list[str]


def load_results(data: Path, *kinds: str, model: str = "*") -> list[tuple[Any, ...]]:
    """For each model that has them all, its results of these kinds.

    Args:
        data: the folder of saved results.
        kinds: names of `KINDS`.
        model: one model's name; by default every model.

    Raises:
        InputError: no model has them all.
    """
    loaded = [_by_model(data, kind, model) for kind in kinds]
    models = [name for name in loaded[0] if all(name in results for results in loaded)]
    if not models:
        wanted = " and ".join(f"{kind}_{model}" for kind in kinds)
        raise InputError(f"{data} has no {wanted} yet")
    return [tuple(results[name] for results in loaded) for name in models]


def load_all(data: Path, kind: str) -> list[Any]:
    """The results of one kind, of every model that has it; raises as `load_results`."""
    return [result for (result,) in load_results(data, kind)]


def _by_model(data: Path, kind: str, model: str) -> dict[str, Any]:
    """The results of one kind by their model's name."""
    result, file = KINDS[kind]
    results = {}
    for path in sorted(data.glob(f"{kind}_{model}{Path(file).suffix}")):
        name = path.stem.partition("_")[2]
        results[name] = result.load(path)
    return results


def source(result: Any, data: str, command: str | None = None) -> str:
    """The entry of a caption on one result: model, data, command and versions.

    Args:
        result: a saved one.
        data: what it was made from, with n.
        command: which made it, where it does not say so itself.

    Raises:
        InputError: neither says the command.
    """
    origin = Provenance.of(result)
    command = command or origin.command
    if not command:
        raise InputError(f"the {type(result).__name__} says no command: give `source` one")
    model = origin.model
    head = f"* {model.name} ({model.revision[:19]}, {model.dtype}): {data}."
    return f"{head}\n  `{command}`\n  ({origin.versions_line})"


def texts_of(result: Any) -> str:
    """How many texts, which, and in which prompt."""
    return f"n = {result.texts.n} {result.texts.source}, prompt {result.prompt.name}"


def attention_source(result: AttentionShift | AttentionPatterns, kind: str) -> str:
    """The source of an attention result, made with default settings: it records no command."""
    if isinstance(result, AttentionPatterns):
        size = f"{len(result.tokens)} tokens with the prompt {result.prompt.name}"
        data = f"n = 1 text, {size}"
        given = f"--text {shlex.quote(_own_text(result))}"
    else:
        data = f"{texts_of(result)}, {sum(result.n_tokens):,} tokens"
        given = f"--texts wikipedia --n {result.texts.n} --span {result.span}"
    name = result.model.name
    place = Path("runs", name, KINDS[kind].file).parent
    layers = short(result.layers)
    command = f"kvlens attend {name} --layers {layers} {given} -o {place.as_posix()}"
    return source(result, data, command)


def _own_text(patterns: AttentionPatterns) -> str:
    """The text without its prompt."""
    whole = "".join(patterns.tokens)
    return whole.removeprefix(patterns.prompt.prefix).removesuffix(patterns.prompt.suffix)
