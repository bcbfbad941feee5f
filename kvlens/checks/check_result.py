"""Check result: how far what kvlens records and re-routes is from what a model itself gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from kvlens.models.info import ModelInfo
from kvlens.rerouting.proof import Proof
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Size
from kvlens.store.facts import text_of_lines
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.tracing.kinds import KEEP

Difference = Annotated[float, Field(ge=0)]
COMPARED = (set(KEEP), set(KEEP) - {"hidden"})  # the latter where hidden states come in streams


class ReadFrom(Record):
    """Where recording reads the states of a model.

    Attributes:
        tree: the module tree that runs.
        again: kinds of states that come of calling the attention module again.
        sides: of padding that do not change the states.
        reason: why not all come from TransformerLens; empty where they do.
    """

    tree: Literal["raw", "bridge"]
    again: tuple[str, ...] = ()
    sides: tuple[str, ...]
    reason: str = ""


class CheckResult(JsonArtifact):
    """What `kvlens.check` found.

    Attributes:
        model: that was checked.
        prompt: around every text.
        n_texts: how many texts were recorded.
        tolerance: the largest difference of a recording that passes.
        differences: kind of states -> largest difference of the recording from raw transformers,
            relative to the largest magnitude of that kind in its layer. Without hidden states where
            blocks give several streams of them.
        worst_layers: kind of states -> the layer of that difference.
        source: where recording reads its states.
        proofs: of re-routing, one a module tree and position of the key; none where no layer can be
            re-routed.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a check of a model"
    again: ClassVar[str] = "run `kvlens check` again"

    format: Literal["kvlens.check"] = "kvlens.check"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    n_texts: Size
    tolerance: Difference
    differences: dict[str, Difference]
    worst_layers: dict[str, int]
    source: ReadFrom
    proofs: tuple[Proof, ...]
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> CheckResult:
        if set(self.differences) not in COMPARED:
            raise ValueError(f"not all of {', '.join(KEEP)} are compared, or more")
        if set(self.worst_layers) != set(self.differences):
            raise ValueError("not every difference has its layer, or more have")
        for layer in self.worst_layers.values():
            self.model.check_layers([layer])
        for proof in self.proofs:
            if proof.model != self.model.revision:
                raise ValueError("a proof of re-routing is of another model")
            if not proof.problem and proof.layers != self.model.layers_to_reroute():
                raise ValueError("a proof of re-routing is not of all layers")
        return self

    @property
    def recording_passed(self) -> bool:
        """Whether every kind of states is within the tolerance."""
        return all(value <= self.tolerance for value in self.differences.values())

    @property
    def rerouting_passed(self) -> bool:
        """Whether re-routing is proven at every position of the key.

        It embeds with the raw model; where TransformerLens' tree is not exact, that one is refused.
        """
        raw = [proof.passed for proof in self.proofs if proof.tree == "raw"]
        return bool(raw) and all(raw)

    @property
    def passed(self) -> bool:
        """Whether recording and re-routing are right on this model."""
        return self.recording_passed and self.rerouting_passed

    def __str__(self) -> str:
        name = f"{self.model.name}: {self.model.architecture}, {self.model.dtype}"
        sides = "both padding sides" if len(self.source.sides) > 1 else "padding seen by the model"
        verdict = f"{_verdict(self.passed)}: {self.n_texts} texts, {sides}"
        lines = [name, *self._recording_lines(), *self._rerouting_lines(), verdict]
        return text_of_lines(lines)

    def _recording_lines(self) -> Iterator[str]:
        tree = "TransformerLens" if self.source.tree == "bridge" else "raw transformers"
        reason = f" ({self.source.reason})" if self.source.reason else ""
        yield f"recording, read from {tree}{reason}; {_tolerated(self.tolerance)}"
        if "hidden" not in self.differences:
            yield f"  {'hidden':25} not compared: its blocks give several streams of hidden states"
        for kind, difference in self.differences.items():
            layer = self.worst_layers[kind]
            yield _line(kind, difference <= self.tolerance, _worst(difference, layer))

    def _rerouting_lines(self) -> Iterator[str]:
        if not self.proofs:
            yield "re-routing: FAILED: no layer keeps keys for itself alone"
            return
        layers = phrase(self.model.layers_to_reroute())
        yield f"re-routing of {layers}; {_tolerated(self.proofs[0].tolerance)}"
        for proof in self.proofs:
            tree = " in TransformerLens" if proof.tree == "bridge" else ""
            line = _line(f"{proof.position}{tree}", proof.passed, _of_proof(proof))
            yield line if proof.tree == "raw" else line.replace("FAILED", "refused", 1)


def _line(what: str, passed: bool, found: str) -> str:
    return f"  {what:25} {_verdict(passed)}: {found}"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _tolerated(tolerance: float) -> str:
    return f"largest relative difference, {tolerance:g} allowed"


def _worst(difference: float, layer: int) -> str:
    return f"{difference:.1e} at layer {layer}"


def _of_proof(proof: Proof) -> str:
    if proof.problem:
        return proof.problem
    return _worst(*max(zip(proof.differences, proof.layers, strict=True)))
