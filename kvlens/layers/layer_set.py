"""Layer set: the layers to re-route and all that an embedding needs; one JSON file."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

from kvlens.dimension.profile import IDProfile
from kvlens.layers.control import PAPER, Control
from kvlens.layers.named_folder import NamedFolder
from kvlens.layers.readout import LAST, block_of, readout_argument
from kvlens.layers.shape import LayerIndices, Shape, Z
from kvlens.layers.stability import UNKNOWN, Stability
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record, later_field
from kvlens.store.bounds import within
from kvlens.store.facts import facts_html, facts_text
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt

Position = Literal["keep", "origin", "none"]
Pooling = Literal["hybrid", "last", "mean", "text_mean"]
Fraction = Annotated[float, Field(ge=0, lt=1)]

# Above this the softmax holds nothing but the prefix; below its negative nothing of it.
MOST_BIAS = 1e4
FiniteBias = Annotated[FiniteFloat, within(-MOST_BIAS, MOST_BIAS)]

WINDOW = 0.10
SKIP_EARLY = 0.20


class RuleParameters(Record):
    """What a rule goes by.

    Attributes:
        window: share of the model's layers; the choice has 1 + floor(window * n_layers) layers.
        skip_early: share of the model's layers; rules that rank leave out the layers below
            ceil(skip_early * n_layers).
        estimator: whose ID they look at.
        z: see `kvlens.layers.shape.shape`.
        layers: those that the user names, for rule ``explicit``.
    """

    window: Fraction = WINDOW
    skip_early: Fraction = SKIP_EARLY
    estimator: str = "twonn"
    z: Annotated[FiniteFloat, Field(gt=0)] = Z
    layers: LayerIndices | None = None


class Prompts(Record):
    """The templates that queries and documents are embedded with.

    Attributes:
        query: around what is searched with.
        document: around what is searched.
    """

    query: Prompt
    document: Prompt


class LayerSet(NamedFolder, JsonArtifact):
    """The layers to re-route, and all else that an embedding needs to be reproduced; one JSON file.

    Its schema: layerset.schema.json.

    Attributes:
        model: what is re-routed.
        layers: 0-based block indices, ascending; empty is the plain model.
        bias: added to the re-routed column's logit, one number or one a layer.
        position: the re-routed key as cached (``keep``), re-rotated to position 0 (``origin``) or
            not rotated (``none``).
        control: whom the prefix reaches and what it carries.
        pooling: from hidden states to a vector.
        prompts: the templates around texts.
        rule: what chose the layers.
        parameters: what the rule went by.
        branch: which of its branches the rule took.
        reason: why, in one sentence.
        shape: of the profile.
        warnings: what to beware of.
        profile: ID by layer with errors, and the calibration texts.
        versions: those of the selection.
        command: the command line that made it, or null.
        stability: how often the rule takes each layer over halves of the texts; not there when
            that is unknown, as in version 1, or when the user chose.
        readout: the block after which hidden states are read, its index or a share of the blocks;
            not there for the last one.
        final_norm: whether they go through the model's final norm first; not there where they do.
        origin: the hub's name with the commit that it was fetched from; not there for one that
            was not.
    """

    model_config = ConfigDict(
        title="kvlens layer set",
        json_schema_extra={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:kvlens:layer-set:2",
        },
    )

    what: ClassVar[str] = "a layer set"
    again: ClassVar[str] = "run `kvlens profile` again"

    format: Literal["kvlens.layer-set"] = "kvlens.layer-set"
    version: Literal[1, 2] = 2
    model: ModelInfo
    layers: LayerIndices
    bias: FiniteFloat | tuple[FiniteFloat, ...] = 1.0
    position: Position = "keep"
    pooling: Pooling = "hybrid"
    control: Control = Field(default=PAPER, exclude_if=lambda control: control == PAPER)
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
    stability: Stability | None = later_field()
    readout: int | float | None = later_field()
    final_norm: bool = Field(default=True, exclude_if=lambda final_norm: final_norm)
    origin: str | None = later_field()

    @model_validator(mode="after")
    def _consistent(self) -> LayerSet:
        self.model.check_layers(self.layers)
        self.model.check_reroutable(self.layers)
        self.model.check_layers(self.shape.minima)
        biases = self.bias if isinstance(self.bias, tuple) else (self.bias,)
        if isinstance(self.bias, tuple) and len(biases) != len(self.layers):
            raise ValueError(
                f"{len(biases)} biases for {len(self.layers)} layers: give one or one each"
            )
        largest = max(biases, key=abs, default=0.0)
        if abs(largest) > MOST_BIAS:
            raise ValueError(f"the bias {largest:g} is above {MOST_BIAS:g} in size")
        if self.profile.model != self.model:
            raise ValueError("model and profile.model differ")
        if self.readout is not None:
            block_of(readout_argument("readout", self.readout), self.model.n_layers)
        if self.version == 1 and (self.stability or self.control != PAPER or not self._is_plain):
            raise ValueError("version 1 has neither stability nor control nor readout")
        if self.stability:
            self.model.check_layers(sorted(self.stability.taken))
        return self

    def __str__(self) -> str:
        minima = phrase(self.shape.minima)
        shape = f"{self.shape.name} (minima: {minima})" if self.shape.minima else self.shape.name
        facts = {"rule": self.rule_words, "shape": shape, "why": self.reason, **self._stable()}
        facts |= self._reading()
        if self.origin:
            facts["from"] = self.origin
        return facts_text(self._title(), facts, self.warnings)

    def _repr_html_(self) -> str:
        how = f"bias {self.bias}, position {self.position}, pooling {self.pooling}"
        facts = {"rule": self.rule, "shape": self.shape.name, "why": self.reason, "re-routing": how}
        facts |= self._stable() | self._reading()
        return facts_html(f"layer set: {self._title()}", facts, self.warnings)

    def _title(self) -> str:
        return f"{phrase(self.layers)} of {self.model.n_layers}, {self.model.name}"

    @property
    def stability_words(self) -> str:
        """How often the layers are taken, if that is known; empty where the user chose them."""
        if self.parameters.layers is not None:
            return ""
        return self.stability.of_choice(self.layers) if self.stability else UNKNOWN

    def _stable(self) -> dict[str, str]:
        return {"stable": self.stability_words} if self.stability_words else {}

    @property
    def _is_plain(self) -> bool:
        """Whether it is read after the last block and the final norm, as ever."""
        return self.readout is None and self.final_norm

    @property
    def reading(self) -> str:
        """Where hidden states are read; empty for the last block after the final norm."""
        if self._is_plain:
            return ""
        n_layers = self.model.n_layers
        block = block_of(LAST if self.readout is None else self.readout, n_layers)
        norm = "" if self.final_norm else ", without the final norm"
        return f"after block {block % n_layers} of {n_layers}{norm}"

    def _reading(self) -> dict[str, str]:
        return {"read": self.reading} if self.reading else {}

    @property
    def rule_words(self) -> str:
        """The rule and what it went by; one that the user's layers decide goes by nothing else."""
        p = self.parameters
        if p.layers is not None:
            return self.rule
        return (
            f"{self.rule} (window {p.window:g}, skip_early {p.skip_early:g}, "
            f"estimator {p.estimator}, z {p.z:g})"
        )
