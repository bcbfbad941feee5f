"""The results behind the figures: their kinds, how they are loaded, what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.low_rank import LowRank
from kvlens.analysis.method_geometry import Geometry
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError
from kvlens.store.provenance import Provenance
from kvlens.studies.decision import Decision
from kvlens.studies.effects import Effects
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy


class Kind(NamedTuple):
    """A kind of results, which lies in a folder of saved results as KIND_MODEL.

    Attributes:
        result: its class.
        file: its place in a run folder.
        also: another place, where a command of the terminal writes it.
    """

    result: Any
    file: str
    also: str = ""


# Where `kvlens report` puts them.
REPORTED_SHIFT = "attention/shift.safetensors"
REPORTED_PATTERNS = "attention/patterns-1.safetensors"

KINDS = {
    "layers": Kind(LayerSet, "layers.json"),
    "shift-prompted": Kind(AttentionShift, "all-prompted/shift.safetensors"),
    "shift-text": Kind(AttentionShift, "all-text/shift.safetensors"),
    "shift-chosen": Kind(
        AttentionShift, "chosen-text/shift.safetensors", "attention/shift.safetensors"
    ),
    "patterns": Kind(AttentionPatterns, "patterns/patterns.safetensors", REPORTED_PATTERNS),
    "lens": Kind(KVLens, "lens/kv_lens.json", "kv_lens.json"),
    "low-rank": Kind(LowRank, "low-rank/low_rank.json", "low_rank.json"),
    "geometry": Kind(Geometry, "lens/geometry.json", "geometry.json"),
    "scores": Kind(Scores, "scores.json"),
    "posts": Kind(Scores, "posts/scores.json"),  # more post-processings
    "retrieval": Kind(Scores, "retrieval/scores.json"),
    "lengths": Kind(Scores, "lengths/scores.json"),
    "longest": Kind(Scores, "longest/scores.json"),  # more lengths, perhaps of fewer methods
    "sweep": Kind(Sweep, "sweep.json"),
    "study": Kind(LayerStudy, "study.json"),
    "readout": Kind(ReadoutSweep, "readout.json"),
    "effects": Kind(Effects, "effects/effects.json", "effects.json"),
    "controls-long": Kind(Scores, "controls-long/scores.json"),
    "decision": Kind(Decision, "decision.json"),
    "decision-news": Kind(Decision, "news/decision.json"),
    "decision-pairs": Kind(Decision, "pairs/decision.json"),
    "proof": Kind(Scores, "proof/scores.json"),  # what pairs chose, on test data
}


class NoResults(InputError):
    """What a figure shows is not there.

    Attributes:
        kinds: names of `KINDS` that are missing.
    """

    def __init__(self, message: str, kinds: Sequence[str]):
        """An error that names the kinds."""
        super().__init__(message)
        self.kinds = tuple(kinds)


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
        missing = [kind for kind, results in zip(kinds, loaded, strict=True) if not results]
        raise NoResults(f"{data} has no {wanted} yet", missing or kinds)
    return [tuple(results[name] for results in loaded) for name in models]


def load_all(data: Path, kind: str) -> list[Any]:
    """The results of one kind, of every model that has it; raises as `load_results`."""
    return [result for (result,) in load_results(data, kind)]


def _by_model(data: Path, kind: str, model: str) -> dict[str, Any]:
    """The results of one kind by their model's name."""
    result = KINDS[kind].result
    results = {}
    for path in sorted(data.glob(f"{kind}_{model}{Path(KINDS[kind].file).suffix}")):
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


Told = Callable[[Any, str], str]
"""Tells the command that a caption shows, of a result and its kind or place in a run folder."""


def not_recorded(result: Any, kind: str) -> str:
    """What is told where nobody knows the command."""
    return "(attention results record no command)"


def attention_source(result: AttentionShift | AttentionPatterns, kind: str, told: Told) -> str:
    """The source of an attention result.

    Args:
        result: a saved one.
        kind: which of `KINDS` it is.
        told: tells its command.
    """
    if isinstance(result, AttentionPatterns):
        size = f"{len(result.tokens)} tokens with the prompt {result.prompt.name}"
        data = f"n = 1 text, {size}"
    else:
        data = f"{texts_of(result)}, {sum(result.n_tokens):,} tokens"
    return source(result, data, told(result, kind))
