"""ID profile: the intrinsic dimension of every layer, with its errors and doubts; one JSON file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, facts_text, picture_of
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

if TYPE_CHECKING:
    pass


class NoEstimate(InputError):
    """These points have no estimate: too few are distinct, or their distances are degenerate."""


class IDEstimate(Record):
    """One layer's ID by one estimator; n: points used; dropped: copies of other points, not used.

    stderr covers the estimator's own mean at this n (how much the value would move with other points of the same
    kind), NOT the distance to the true dimension, from which the estimators are biased downwards as it grows.
    """

    layer: int = Field(ge=0)
    value: float = Field(gt=0)
    stderr: float = Field(ge=0)
    n: int
    dropped: int
    warnings: tuple[str, ...] = ()


class ScaleProfile(Record):
    """One layer's ID by GRIDE (Denti et al. 2022) at growing scales: each compares the distances of the neighbours
    of rank neighbours[i] / 2 and neighbours[i]. stderrs: as in `IDEstimate`."""

    layer: int = Field(ge=0)
    neighbours: tuple[int, ...]
    values: tuple[float, ...]
    stderrs: tuple[float, ...]


class IDProfile(JsonArtifact):
    """ID of every layer, by estimator ("twonn", "mle"), layers ascending, with what it was made from; one JSON file.

    skipped: layers without an estimate and why (the key and value of layer 0 are the same for every text that ends
    in the same token).
    """

    what: ClassVar[str] = "an ID profile"
    again: ClassVar[str] = "profile the model again"

    format: Literal["kvlens.id-profile"] = "kvlens.id-profile"
    version: Literal[1] = 1
    model: ModelInfo
    states: str
    points: str
    prompt: Prompt
    texts: TextsInfo
    estimates: dict[str, tuple[IDEstimate, ...]] = Field(min_length=1)
    scales: tuple[ScaleProfile, ...]
    skipped: dict[int, str] = Field(default_factory=dict)
    versions: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> IDProfile:
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers have to ascend without repetition, not {list(self.layers)}")
        if any(tuple(e.layer for e in row) != self.layers for row in self.estimates.values()):
            raise ValueError("the estimators have to cover the same layers")
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(e.layer for e in next(iter(self.estimates.values())))

    def values(self, estimator: str) -> np.ndarray:
        """The ID by layer, float64 ``[n_layers]``."""
        return np.array([e.value for e in self.estimates[estimator]])

    def stderrs(self, estimator: str) -> np.ndarray:
        """Its standard errors, float64 ``[n_layers]``."""
        return np.array([e.stderr for e in self.estimates[estimator]])

    @property
    def warnings(self) -> list[str]:
        """The estimates' warnings, one line per kind, layers and estimators grouped."""
        groups: dict[
            tuple[tuple[int, str], ...], list[str]
        ] = {}  # (layer, warning) of one kind -> estimators
        for name, row in self.estimates.items():
            said = [(e.layer, text) for e in row for text in e.warnings]
            for kind in dict.fromkeys(text.partition(":")[0] for _, text in said):
                hits = tuple(one for one in said if one[1].startswith(kind))
                groups.setdefault(hits, []).append(name)
        lines = []
        for hits, names in groups.items():
            example = f" (at layer {hits[0][0]})" if len({text for _, text in hits}) > 1 else ""
            lines.append(
                f"{', '.join(names)} at {phrase([at for at, _ in hits])}: {hits[0][1]}{example}"
            )
        if self.skipped:
            lines.append(
                f"{phrase(list(self.skipped))} left out: {next(iter(self.skipped.values()))}"
            )
        return lines

    def _facts(self) -> tuple[str, dict[str, str]]:
        facts = {
            "states": f"{self.states}, points {self.points}, prompt {self.prompt.name}",
            "texts": f"{self.texts.n}, {self.texts.source}",
            **{f"{name} ID": self._span(name) for name in self.estimates},
        }
        return (
            f"ID profile: {self.model.name}, {phrase(self.layers)} of {self.model.n_layers}",
            facts,
        )

    def __str__(self) -> str:
        return facts_text(*self._facts(), self.warnings)

    def _repr_html_(self) -> str:
        title, facts = self._facts()
        return facts_html(title, facts, self.warnings, picture_of(self, title))

    def _span(self, name: str) -> str:
        low, high = (f(self.estimates[name], key=lambda e: e.value) for f in (min, max))
        return " to ".join(f"{e.value:.1f} ± {e.stderr:.1f} (layer {e.layer})" for e in (low, high))
