"""From an ID profile to the layers to re-route: the profile's shape, the selection rules, the layer-set file.

Source: KV-Embedding (arXiv:2601.01046), layer selection by intrinsic dimension (ID): a small window at the ID
minimum. The exact branches of rule `paper` are known from secondary sources, and cover only two shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from kvlens.dimension import IDProfile
from kvlens.files import InputError, versions
from kvlens.models import ModelInfo
from kvlens.prompts import DEFAULT_DOCUMENT, DEFAULT_QUERY, PROMPTS, Prompt
from kvlens.records import FileRecord, Record, facts_html, first_problem, phrase

Z = 3.0  # standard errors of a difference that make it clear; what this means for a whole profile: `shape`
ShapeName = Literal["U", "rising", "falling", "several minima", "peak", "flat"]
Position = Literal["keep", "origin", "none"]
Pooling = Literal["hybrid", "last", "mean", "text_mean"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
LayerIndices = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(json_schema_extra={"uniqueItems": True})]


class Shape(Record):
    """The shape of an ID profile, beyond its errors. minima: the layers of the minima that stand out;
    edge_minima: those of them that belong to an end of the profile. Both are empty when it is flat."""

    name: ShapeName
    minima: LayerIndices
    edge_minima: LayerIndices


def shape(values: ArrayLike, stderrs: ArrayLike, z: float = Z, layers: Sequence[int] | None = None) -> Shape:
    """Name the shape of a profile: which of its minima stand out from their errors.

    values, stderrs: float [n_layers], in any one unit; layers: the layer of each (default 0, 1, ...).
    A local minimum i counts when, on each side, some layer s before the next lower value is clearly higher,
    ``v_s - v_i > z * sqrt(se_i^2 + se_s^2)``: with equal errors, sublevel-set persistence above a threshold.
    A minimum from which the ID does not rise clearly towards an end belongs to that end. One minimum: U, or
    rising or falling when it belongs to an end, or flat when to both. Exactly one at each end: peak. Else:
    several minima.

    The threshold takes the errors of layers as independent. Layers share their texts, so that errors of
    differences are over-stated, which is conservative (SmolLM2-135M, 500 texts, half-subsampling: correlation 0.6
    between neighbours, 0.2 five layers apart, none from ten on). Against that, nothing corrects for the many
    pairs compared: with these correlations, a truly flat profile of 30 layers is called flat in 20 % of draws at
    z = 2, 82 % at 3, 96 % at 3.5; a U that rises 5 standard errors on each side is called one in 95, 87, 64 %.
    Raises InputError for empty, unequal, non-finite input, negative errors, and z <= 0.
    """
    v, e = np.asarray(values, dtype=np.float64), np.asarray(stderrs, dtype=np.float64)
    n, names = v.size, list(range(v.size) if layers is None else layers)
    if v.ndim != 1 or not n or v.shape != e.shape or len(names) != n:
        raise InputError(f"a profile needs one value and one error per layer, not {v.shape} and {e.shape}")
    if not (np.isfinite(v).all() and np.isfinite(e).all() and (e >= 0).all() and 0 < z < np.inf):
        raise InputError("values and errors of a profile have to be finite, no error negative, and z above 0")
    # Of equal values the more certain one is the lower: a mirrored profile has the mirrored shape.
    rank = np.empty(n, dtype=int)
    rank[np.lexsort((np.arange(n), e, v))] = np.arange(n)

    def meets(i: int, path: range) -> str:
        for s in path:
            if rank[s] < rank[i]:
                return "lower"
            if v[s] - v[i] > z * np.hypot(e[i], e[s]):
                return "higher"
        return "end"

    sides = [(i, meets(i, range(i - 1, -1, -1)), meets(i, range(i + 1, n))) for i in range(n)]
    found = [side for side in sides if "lower" not in side]
    left, right = found[0][1] == "end", found[-1][2] == "end"
    name: ShapeName = "peak" if len(found) == 2 and left and right else "several minima"
    if len(found) == 1:
        name = ("flat" if right else "rising") if left else "falling" if right else "U"
    minima = () if name == "flat" else tuple(names[i] for i, _, _ in found)
    edges = dict.fromkeys(minima[:1] * left + minima[-1:] * right)
    return Shape(name=name, minima=minima, edge_minima=tuple(edges))


class RuleParameters(Record):
    """What a rule is told. window, skip_early: fractions of the model's layers; z: see `shape`; layers: those
    given to rule `explicit`."""

    window: Fraction = 0.10
    skip_early: Fraction = 0.20
    estimator: str = "twonn"
    z: Annotated[FiniteFloat, Field(gt=0)] = Z
    layers: LayerIndices | None = None


class Prompts(Record):
    """The templates that queries and documents are embedded with."""

    query: Prompt
    document: Prompt


class LayerSet(FileRecord):
    """The layers to re-route, and everything else that an embedding needs to be reproduced; one JSON file.

    layers: 0-based block indices, ascending; empty is the plain model. bias: added to the re-routed column's
    logit, one number or one per layer. position: the re-routed key as cached (keep), re-rotated to position 0
    (origin) or not rotated (none). profile: ID per layer with errors, calibration texts, versions. versions:
    those of the selection. command: the command line that made it, or null. The schema: layerset.schema.json.
    """

    model_config = ConfigDict(
        title="kvlens layer set",
        json_schema_extra={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:kvlens:layer-set:1",
        },
    )

    what: ClassVar[str] = "a layer set"
    again: ClassVar[str] = "run `kvlens profile` again"

    format: Literal["kvlens.layer-set"] = "kvlens.layer-set"
    version: Literal[1] = 1
    model: ModelInfo
    layers: LayerIndices
    bias: FiniteFloat | tuple[FiniteFloat, ...] = 1.0
    position: Position = "keep"
    pooling: Pooling = "hybrid"
    prompts: Prompts
    rule: str
    parameters: RuleParameters
    branch: str
    reason: str
    shape: Shape
    warnings: tuple[str, ...]
    profile: IDProfile
    versions: dict[str, str]
    command: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LayerSet:
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers have to ascend without repetition, not {list(self.layers)}")
        if self.layers and self.layers[-1] >= self.model.n_layers:
            last = self.model.n_layers - 1
            raise ValueError(f"layer {self.layers[-1]} is outside the model, whose layers are 0 to {last}")
        if isinstance(self.bias, tuple) and len(self.bias) != len(self.layers):
            raise ValueError(f"{len(self.bias)} biases for {len(self.layers)} layers: give one or one each")
        if self.profile.model != self.model:
            raise ValueError("model and profile.model differ")
        return self

    def __str__(self) -> str:
        p, minima = self.parameters, f" (minima: {phrase(self.shape.minima)})" if self.shape.minima else ""
        told = f" (window {p.window:g}, skip_early {p.skip_early:g}, estimator {p.estimator}, z {p.z:g})"
        return "\n".join(
            [
                f"{phrase(self.layers)} of {self.model.n_layers}, {self.model.name}",
                f"  rule     {self.rule}{'' if p.layers is not None else told}",
                f"  shape    {self.shape.name}{minima}",
                f"  why      {self.reason}",
                *(f"  warning  {text}" for text in self.warnings),
            ]
        )

    def _repr_html_(self) -> str:
        title = f"layer set: {phrase(self.layers)} of {self.model.n_layers}, {self.model.name}"
        how = f"bias {self.bias}, position {self.position}, pooling {self.pooling}"
        facts = {"rule": self.rule, "shape": self.shape.name, "why": self.reason, "re-routing": how}
        return facts_html(title, facts, self.warnings)


@dataclass(frozen=True)
class Choice:
    """What a rule answers: layers, the branch it took, why (one sentence), and what to beware of."""

    layers: tuple[int, ...]
    branch: str
    reason: str
    warnings: tuple[str, ...] = ()


class _View:
    """One estimator's numbers by layer, and the counts that the rules share."""

    def __init__(self, profile: IDProfile, p: RuleParameters):
        self.n, self.p, self.measured = profile.model.n_layers, p, list(profile.layers)
        self.value = dict(zip(self.measured, profile.values(p.estimator), strict=True))
        self.error = dict(zip(self.measured, profile.stderrs(p.estimator), strict=True))
        # Rounded first: 0.29 * 100 is 28.999999999999996 in binary.
        self.further = floor(round(p.window * self.n, 9))
        self.first = ceil(round(p.skip_early * self.n, 9))
        self.past = f"past the first {100 * p.skip_early:g} % of the depth"

    def late_by_id(self) -> list[int]:
        late = [layer for layer in self.measured if layer >= self.first]
        if not late:
            raise InputError(f"no profiled layer lies {self.past}: lower skip_early")
        return sorted(late, key=lambda layer: (self.value[layer], layer))

    def show(self, layer: int) -> str:
        return f"layer {layer} (ID {self.value[layer]:.1f}, standard error {self.error[layer]:.1f})"

    def rivals(self, layer: int, others: Sequence[int]) -> list[str]:
        """A warning when the ID of some of the others is not clearly above that of `layer`."""
        margin = {s: self.p.z * np.hypot(self.error[s], self.error[layer]) for s in others if s != layer}
        close = [s for s, limit in margin.items() if self.value[s] - self.value[layer] <= limit]
        return [f"the ID at layer {layer} is not clearly below that at {phrase(close)}"] if close else []


def lowest_k(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """The 1 + floor(window * n_layers) layers of lowest ID past skip_early, whatever the shape."""
    view = _View(profile, p)
    late = view.late_by_id()
    chosen, rest = late[: 1 + view.further], late[1 + view.further :]
    warnings = view.rivals(chosen[-1], sorted(rest))
    if len(chosen) <= view.further:
        warnings.append(f"only {len(chosen)} profiled layers lie {view.past}, too few for the window")
    limit = min(late)
    early = [layer for layer in view.measured if layer < limit]
    if early and limit in chosen and view.value[early[-1]] < view.value[limit]:
        warnings.append(f"layer {limit} is where skip_early ends, not a minimum: the ID is lower before it")
    count = f"{len(chosen)} layers" if len(chosen) > 1 else "layer"
    reason = f"The {count} of lowest {p.estimator} ID {view.past}; the lowest is {view.show(chosen[0])}."
    return Choice(tuple(chosen), "lowest past skip_early", reason, tuple(warnings))


def paper(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """U: the minimum and floor(window * n_layers) more. Several minima: `lowest_k`; so too, with a warning, for
    the shapes that the paper does not cover."""
    if shape.name != "U":
        lowest = lowest_k(profile, shape, p)
        where = f", minima at {phrase(shape.minima)}" if shape.minima else ""
        reason = f"The profile is not a U ({shape.name}{where}), so the rule takes t{lowest.reason[1:]}"
        guess = (f"the paper's rule does not cover this shape ({shape.name}): the choice is a guess",)
        warnings = lowest.warnings if shape.name == "several minima" else guess + lowest.warnings
        return Choice(lowest.layers, lowest.branch, reason, warnings)
    view, start = _View(profile, p), shape.minima[0]
    end = min(start + view.further, view.n - 1)
    reason = (
        f"The {p.estimator} profile is a U with its minimum at {view.show(start)}: the window starts there and "
        f"spans floor({p.window:g} x {view.n}) = {view.further} more."
    )
    warnings = tuple(view.rivals(start, view.measured))
    if end < start + view.further:
        warnings += (f"the window is clipped at the last layer, {end}: {end - start} further layers",)
    return Choice(tuple(range(start, end + 1)), "U: window from the minimum", reason, warnings)


def window_around_minimum(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """1 + floor(window * n_layers) neighbouring layers around the lowest one past skip_early (an odd one out
    comes after it), shifted to stay inside the model."""
    view = _View(profile, p)
    late = view.late_by_id()
    start = max(0, min(late[0] - view.further // 2, view.n - 1 - view.further))
    reason = f"A window around {view.show(late[0])}, where the {p.estimator} ID is lowest {view.past}."
    layers = tuple(range(start, start + view.further + 1))
    return Choice(layers, "window around the minimum", reason, tuple(view.rivals(late[0], sorted(late))))


def explicit(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """The layers that the user names."""
    if p.layers is None:
        raise InputError('rule "explicit" needs layers, such as layers=(7, 8, 9), or () for the plain model')
    return Choice(p.layers, "explicit", "The layers were given by the user.")


Rule = Callable[[IDProfile, Shape, RuleParameters], Choice]
RULES: dict[str, Rule] = {
    "paper": paper,
    "lowest-k": lowest_k,
    "window-around-minimum": window_around_minimum,
    "explicit": explicit,
}


def select(
    profile: IDProfile,
    rule: str = "paper",
    window: float = 0.10,
    skip_early: float = 0.20,
    estimator: str = "twonn",
    layers: Sequence[int] | None = None,
    z: float = Z,
    *,
    bias: float | Sequence[float] = 1.0,
    position: Position = "keep",
    pooling: Pooling = "hybrid",
    query: Prompt | None = None,
    document: Prompt | None = None,
    command: str | None = None,
) -> LayerSet:
    """Choose the layers to re-route from an ID profile, by a rule of `RULES`.

    window: the choice has 1 + floor(window * n_layers) layers; skip_early: rules that rank leave out layers
    below ceil(skip_early * n_layers); z: see `shape`; layers: for rule explicit only, ascending. The rest
    describes the embedding, see `LayerSet`; document defaults to the prompt profiled with where that is a
    compression prompt, else to the paper's; query to the document prompt's counterpart.
    Raises InputError for an unknown rule or estimator and for values out of range.
    """
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}: choose one of {', '.join(RULES)}")
    if estimator not in profile.estimates:
        raise InputError(f"the profile has no estimator {estimator!r}, only {', '.join(profile.estimates)}")
    if layers is not None and rule != "explicit":
        raise InputError(f'layers go with rule "explicit", not with "{rule}"')
    try:
        p = RuleParameters(
            window=window,
            skip_early=skip_early,
            estimator=estimator,
            z=z,
            layers=None if layers is None else tuple(layers),
        )
        found = shape(profile.values(estimator), profile.stderrs(estimator), z, profile.layers)
        choice = RULES[rule](profile, found, p)
        compression = profile.prompt.name.startswith("kv-document")
        document = document or (profile.prompt if compression else DEFAULT_DOCUMENT)
        counterpart = PROMPTS.get(document.name.replace("document", "query"), DEFAULT_QUERY)
        prompts = Prompts(query=query or counterpart, document=document)
        return LayerSet(
            model=profile.model,
            layers=choice.layers if rule == "explicit" else tuple(sorted(choice.layers)),
            bias=bias if isinstance(bias, int | float) else tuple(bias),
            position=position,
            pooling=pooling,
            prompts=prompts,
            rule=rule,
            parameters=p,
            branch=choice.branch,
            reason=choice.reason,
            shape=found,
            warnings=choice.warnings + _beware(profile, found, p, choice.layers, prompts),
            profile=profile,
            versions=versions(),
            command=command,
        )
    except ValidationError as error:
        raise InputError(first_problem(error)) from error


def _beware(
    profile: IDProfile, found: Shape, p: RuleParameters, layers: Sequence[int], prompts: Prompts
) -> tuple[str, ...]:
    """What every rule warns of: edges, layers without an estimate, doubtful estimates, another prompt."""
    view, n, warnings = _View(profile, p), profile.model.n_layers, []
    lowest = min(view.measured, key=lambda layer: view.value[layer])
    if p.layers is None:
        edge = ", an edge" if lowest in (view.measured[0], view.measured[-1], *found.edge_minima) else ""
        out = ", which is not chosen" if lowest not in layers else ""
        warnings += [f"the profile is lowest at {view.show(lowest)}{edge}{out}"] if edge or out else []
        ends = [name for name, i in (("first", 0), ("last", n - 1)) if i in layers]
        warnings += [f"the choice includes the model's {' and '.join(ends)} layer"] if ends else []
    if len(view.measured) < n:
        warnings.append(f"only {len(view.measured)} of the model's {n} layers were profiled")
    if doubtful := [e for e in profile.estimates[p.estimator] if e.warnings and e.layer in layers]:
        kinds = dict.fromkeys(text.partition(":")[0] for e in doubtful for text in e.warnings)
        warnings.append(f"the ID at {phrase([e.layer for e in doubtful])} is in doubt ({', '.join(kinds)})")
    if profile.prompt not in (prompts.query, prompts.document):
        documents = prompts.document.name
        warnings.append(f"profiled with prompt {profile.prompt.name}, but documents will use {documents}")
    return tuple(warnings)


def schema() -> str:
    """The JSON schema of the layer-set file, as published in layerset.schema.json."""
    return json.dumps(LayerSet.model_json_schema(), indent=2) + "\n"
