"""Proof: what the probe said of a model; a pass is remembered by all that it depends on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any, ClassVar, Literal, cast

from pydantic import model_validator

from kvlens.layers.layer_set import Position
from kvlens.layers.route import Route
from kvlens.models.language_model import LanguageModel, Tree
from kvlens.rerouting.probe import probe
from kvlens.store.artifact import JsonArtifact
from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.files import cache_folder
from kvlens.store.provenance import versions
from kvlens.store.sharing import PerObject

TOLERANCE = 1e-5
HALF_TOLERANCE = 5e-2
FOLDER = "proofs"
DIGITS = 32  # of the hash that names a file


class Proof(JsonArtifact):
    """What the probe said of one module tree of a model.

    Attributes:
        model: revision of the weights.
        dtype: of the weights.
        device: kind of the device.
        kernel: attention function.
        tree: raw, or bridge.
        position: of the re-routed key.
        by_head: whether single heads saw the prefix.
        versions: package -> version.
        layers: that were probed.
        differences: one a layer, relative; empty where the pass broke.
        problem: why it broke; empty where it did not.
    """

    what: ClassVar[str] = "a proof of re-routing"
    again: ClassVar[str] = "remove it"
    format: Literal["kvlens.proof"] = "kvlens.proof"
    version: Literal[2] = 2
    model: str
    dtype: str
    device: str
    kernel: str
    tree: str
    position: str
    by_head: bool = False
    versions: dict[str, str]
    layers: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    problem: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Proof:
        if len(self.layers) != len(self.differences):
            raise ValueError("the differences are not one a layer")
        return self

    @property
    def tolerance(self) -> float:
        """The largest difference that passes."""
        return TOLERANCE if self.dtype == "float32" else HALF_TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether re-routing is exact in every layer."""
        return not self.problem and all(each <= self.tolerance for each in self.differences)

    def objection(self, layers: tuple[int, ...]) -> str | None:
        """Why these layers cannot be re-routed; None where nothing is in the way."""
        if self.problem:
            return self.problem
        by_layer = dict(zip(self.layers, self.differences, strict=True))
        wrong = [layer for layer in layers if by_layer[layer] > self.tolerance]
        if not wrong:
            return None
        worst = by_layer[wrong[0]]
        return f"layer {wrong[0]} is off by {worst:.1e} of {self.tolerance:g} allowed"


_PROOFS: PerObject[dict[tuple[str, Tree, bool, str], Proof]] = PerObject(dict)
"""Position, tree, by head and attention function -> what the probe said in this process."""


def proof_of(
    lm: LanguageModel,
    position: str = "keep",
    tree: Tree = "raw",
    anew: bool = False,
    by_head: bool = False,
) -> Proof:
    """What the probe says of a model; it runs once for what the verdict depends on.

    Args:
        lm: the model.
        position: of the re-routed key.
        tree: ``raw``, or ``bridge``, which is built for it.
        anew: run it now, whatever is remembered.
        by_head: show the prefix to single heads.

    Returns:
        The verdict.
    """
    proofs = _PROOFS.of(lm.hf)
    kernel = str(lm.decoder(tree).config._attn_implementation)
    case = (position, tree, by_head, kernel)
    with lm.turn():
        if anew or case not in proofs:
            unproven = _unproven(lm, case)
            name = _name(unproven)
            known = None if anew else _remembered(name, unproven)
            proofs[case] = known or _found(lm, name, unproven)
        return proofs[case]


def refusal(lm: LanguageModel, route: Route, tree: Tree) -> str | None:
    """Why a route is refused, in one line; None where it is proven exact."""
    # What is not exact with its key kept is not with another one, whatever its own oracle says.
    cases = dict.fromkeys([("keep", False), (route.position, False)])
    if route.control.heads:
        cases["keep", True] = None
    for position, by_head in cases:
        objection = proof_of(lm, position, tree, by_head=by_head).objection(route.layers)
        if objection is not None:
            whose = lm.info.architecture + (" in TransformerLens" if tree == "bridge" else "")
            how = f"{position}, single heads" if by_head else position
            return shortened(f"re-routing ({how}) is not exact on {whose}: {objection}")
    return None


def _unproven(lm: LanguageModel, case: tuple[str, Tree, bool, str]) -> Proof:
    position, tree, by_head, kernel = case
    return Proof(
        model=lm.info.revision,
        dtype=lm.info.dtype,
        device=lm.device.type,
        kernel=kernel,
        tree=tree,
        position=position,
        by_head=by_head,
        versions=versions(),
    )


def _name(unproven: Proof) -> str:
    content = json.dumps(unproven.model_dump(), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGITS]


def _remembered(name: str, unproven: Proof) -> Proof | None:
    """The pass of an earlier process; None where there is none of just this, whole."""
    with contextlib.suppress(InputError):
        proof = Proof.load(cache_folder(FOLDER) / f"{name}.json")
        empty: dict[str, Any] = {"layers": (), "differences": (), "problem": ""}
        if proof.model_copy(update=empty) == unproven:
            return proof
    return None


def _found(lm: LanguageModel, name: str, unproven: Proof) -> Proof:
    """Probe the model, and remember what that says."""
    found: dict[str, Any]
    try:
        position, tree = cast(Position, unproven.position), cast(Tree, unproven.tree)
        differences = probe(lm, position, tree, unproven.by_head)
        found = {"layers": tuple(differences), "differences": tuple(differences.values())}
    except InputError as error:
        found = {"problem": str(error)}
    except Exception as error:  # whatever a model of others raises
        problem = f"its attention takes no prefix ({type(error).__name__}: {one_line(error)})"
        found = {"problem": problem}
    proof = unproven.model_copy(update=found)
    # What failed is tried again by the next process: memory may have been short.
    if proof.passed:
        with contextlib.suppress(InputError):  # a cache that cannot be written is none
            proof.save(cache_folder(FOLDER) / f"{name}.json")
    return proof
