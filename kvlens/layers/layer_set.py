"""Layer set: the layers to re-route and all that an embedding needs; one JSON file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from kvlens.dimension.profile import IDProfile
from kvlens.layers.shape import LayerIndices, Shape, Z
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.facts import facts_html
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt

Position = Literal["keep", "origin", "none"]


Pooling = Literal["hybrid", "last", "mean", "text_mean"]


Fraction = Annotated[float, Field(ge=0, lt=1)]


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


class LayerSet(JsonArtifact):
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
            raise ValueError(
                f"layer {self.layers[-1]} is outside the model, whose layers are 0 to {last}"
            )
        if isinstance(self.bias, tuple) and len(self.bias) != len(self.layers):
            raise ValueError(
                f"{len(self.bias)} biases for {len(self.layers)} layers: give one or one each"
            )
        if self.profile.model != self.model:
            raise ValueError("model and profile.model differ")
        return self

    def __str__(self) -> str:
        p, minima = (
            self.parameters,
            f" (minima: {phrase(self.shape.minima)})" if self.shape.minima else "",
        )
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
