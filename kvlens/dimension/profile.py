"""ID profile: the intrinsic dimension (ID) of every layer, with its errors and doubts.

The values only: how they are estimated is in `estimation`, when they are doubted in `doubts`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from kvlens.dimension.draws import Draws
from kvlens.dimension.order import Order, order_of, order_words
from kvlens.dimension.sink import Sink
from kvlens.models.info import ModelInfo
from kvlens.store.arguments import choice_argument
from kvlens.store.artifact import JsonArtifact, Record, later_field
from kvlens.store.bounds import Count
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, facts_text, picture_of
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo


class NoEstimate(InputError):
    """These points have no estimate: too few are distinct, or their distances are degenerate."""


class IDEstimate(Record):
    """One layer's ID by one estimator.

    Attributes:
        layer: 0-based block index.
        value: the ID.
        stderr: standard error. It covers the estimator's own mean at this n (how much the value
            would move with other points of the same kind), NOT the distance to the true dimension,
            from which the estimators are biased downwards as it grows.
        n: points used.
        dropped: copies of other points, not used.
        warnings: what speaks against the value; each starts with its kind and a colon.
    """

    layer: int = Field(ge=0)
    value: float = Field(gt=0)
    stderr: float = Field(ge=0)
    n: Count
    dropped: Count
    warnings: tuple[str, ...] = ()


class ScaleProfile(Record):
    """One layer's ID by GRIDE (Denti et al. 2022) at growing scales.

    Attributes:
        layer: 0-based block index.
        neighbours: scale i compares the distances of the neighbours of rank ``neighbours[i] / 2``
            and ``neighbours[i]``.
        values: the ID at each scale.
        stderrs: as in `IDEstimate`.
    """

    layer: int = Field(ge=0)
    neighbours: tuple[int, ...]
    values: tuple[float, ...]
    stderrs: tuple[float, ...]

    @model_validator(mode="after")
    def _consistent(self) -> ScaleProfile:
        if not len(self.neighbours) == len(self.values) == len(self.stderrs):
            raise ValueError("neighbours, values and stderrs have to be equally many")
        return self


class IDProfile(JsonArtifact):
    """ID of every layer, with what it was made from; one JSON file.

    Attributes:
        model: whose states they are.
        states: hidden, k, k_pre, v or kv (k beside v).
        points: which tokens' states: last, mean or all.
        prompt: the template around every text.
        texts: where the texts come from.
        estimates: estimator (``twonn``, ``mle``) -> one estimate a layer, layers ascending.
        scales: one a layer.
        skipped: layers without an estimate, and why (the key and value of layer 0 are the same for
            every text that ends in the same token).
        versions: package -> version.
        sink: the block that writes position 0's massive activation, b*; None: not measured.
        draws: the same IDs of random halves of the texts; None: not measured. Both are None in
            version 1.
        decimation: the same IDs of two halves, of four quarters, of four eighths and so on, of at
            least 100 texts each, none with a text of another of its size; None: not measured.
    """

    what: ClassVar[str] = "an ID profile"
    again: ClassVar[str] = "profile the model again"

    format: Literal["kvlens.id-profile"] = "kvlens.id-profile"
    version: Literal[1, 2] = 2
    model: ModelInfo
    states: str
    points: str
    prompt: Prompt
    texts: TextsInfo
    estimates: dict[str, tuple[IDEstimate, ...]] = Field(min_length=1)
    scales: tuple[ScaleProfile, ...]
    skipped: dict[int, str] = Field(default_factory=dict)
    versions: dict[str, str]
    sink: Sink | None = later_field()
    draws: Draws | None = later_field()
    decimation: tuple[Draws, ...] | None = later_field()

    @model_validator(mode="after")
    def _consistent(self) -> IDProfile:
        if not self.layers:
            raise ValueError("no layer has an estimate")
        self.model.check_layers(self.layers)
        self.model.check_layers(sorted(self.skipped))
        for row in self.estimates.values():
            if tuple(estimate.layer for estimate in row) != self.layers:
                raise ValueError("the estimators have to cover the same layers")
        for scale in self.scales:
            self.model.check_layers([scale.layer])
        self._check_additions()
        return self

    def _check_additions(self) -> None:
        """Raise ValueError for what version 2 brought, where it fits no profile of this kind."""
        if self.version == 1 and (self.sink or self.draws or self.decimation):
            raise ValueError("version 1 has neither sink nor draws")
        if self.sink and self.sink.block is not None:
            self.model.check_layers([self.sink.block])
        levels = self.decimation or ()
        if any(one.n <= other.n for one, other in pairwise(levels)):
            raise ValueError("the parts of a decimation have to become smaller")
        for draws in (self.draws, *levels):
            if draws is not None:
                self._check_draws(draws)

    def _check_draws(self, draws: Draws) -> None:
        if draws.values.keys() != self.estimates.keys():
            raise ValueError("draws and estimates have to have the same estimators")
        if len({len(lines) for lines in draws.values.values()}) != 1:
            raise ValueError("the estimators have to have the same draws")
        lines = [line for lines in draws.values.values() for line in lines]
        if any(len(line) != len(self.layers) for line in lines):
            raise ValueError("a draw has to have one ID a layer")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have an estimate, ascending."""
        first = next(iter(self.estimates.values()))
        return tuple(estimate.layer for estimate in first)

    def values(self, estimator: str) -> Float[np.ndarray, " n_layers"]:
        """The ID by layer, float64; raises InputError for an estimator that it lacks."""
        return np.array([estimate.value for estimate in self._of(estimator)])

    def stderrs(self, estimator: str) -> Float[np.ndarray, " n_layers"]:
        """Its standard errors, float64; raises as `values`."""
        return np.array([estimate.stderr for estimate in self._of(estimator)])

    def drawn_values(self, estimator: str) -> Float[np.ndarray, "draws n_layers"]:
        """The ID by layer of each draw, float64; none without draws; raises as `values`."""
        shape = (-1, len(self._of(estimator)))
        lines = self.draws.values[estimator] if self.draws else ()
        return np.array(lines, dtype=np.float64).reshape(shape)

    def decimated(
        self, estimator: str
    ) -> tuple[Int[np.ndarray, " sizes"], Float[np.ndarray, "sizes n_layers"]]:
        """How many texts, ascending up to all, and the ID by layer, mean over the parts."""
        values = self.values(estimator)  # refuses an estimator that it lacks
        levels = self.decimation or ()
        means = [np.mean(level.values[estimator], axis=0) for level in levels]
        sizes = [self.texts.n, *(level.n for level in levels)]
        return np.array(sizes[::-1]), np.array([values, *means][::-1])

    def order(self, estimator: str) -> Order | None:
        """Whether layers keep their order from n/2 to n texts; None where that is not known."""
        values = self.values(estimator)
        return order_of(self.decimation[0], estimator, values) if self.decimation else None

    @property
    def order_of_layers(self) -> str:
        """The same by every estimator, in words; empty where that is not known."""
        orders = {name: self.order(name) for name in self.estimates}
        known = {name: order for name, order in orders.items() if order}
        return order_words(known, self.texts.n) if known else ""

    def _of(self, estimator: str) -> tuple[IDEstimate, ...]:
        return self.estimates[choice_argument("estimator", estimator, self.estimates)]

    @property
    def warnings(self) -> list[str]:
        """The estimates' warnings, one line a kind, layers and estimators grouped."""
        groups: dict[tuple[tuple[int, str], ...], list[str]] = {}
        for estimator, row in self.estimates.items():
            for group in _by_kind(row):
                groups.setdefault(group, []).append(estimator)
        lines = [_grouped_line(group, names) for group, names in groups.items()]
        if self.skipped:
            first_reason = next(iter(self.skipped.values()))
            lines.append(f"{phrase(list(self.skipped))} left out: {first_reason}")
        return lines

    def __str__(self) -> str:
        return facts_text(self._title(), self._facts(), self.warnings)

    def _repr_html_(self) -> str:
        title = self._title()
        return facts_html(title, self._facts(), self.warnings, picture_of(self, title))

    def _title(self) -> str:
        return f"ID profile: {self.model.name}, {phrase(self.layers)} of {self.model.n_layers}"

    def _facts(self) -> dict[str, str]:
        facts = {
            "states": f"{self.states}, points {self.points}, prompt {self.prompt.name}",
            "texts": f"{self.texts.n}, {self.texts.source}",
            "b*": str(self.sink or "not measured"),
        }
        for estimator, row in self.estimates.items():
            facts[f"{estimator} ID"] = f"{_extreme(min, row)} to {_extreme(max, row)}"
        if self.order_of_layers:
            facts["order of layers"] = self.order_of_layers
        return facts


def warning_kind(warning: str) -> str:
    """What an estimate's warning is about, without its numbers: ``n too small``, ``duplicates``."""
    return warning.partition(":")[0]


def _by_kind(row: tuple[IDEstimate, ...]) -> list[tuple[tuple[int, str], ...]]:
    """One estimator's warnings as (layer, warning), those of one kind together."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for estimate in row:
        for warning in estimate.warnings:
            groups.setdefault(warning_kind(warning), []).append((estimate.layer, warning))
    return [tuple(group) for group in groups.values()]


def _grouped_line(group: tuple[tuple[int, str], ...], estimators: list[str]) -> str:
    layers = [layer for layer, _ in group]
    first = group[0][1]
    alike = all(warning == first for _, warning in group)
    example = "" if alike else f" (at layer {layers[0]})"
    return f"{', '.join(estimators)} at {phrase(layers)}: {first}{example}"


def _extreme(pick: Callable[..., IDEstimate], row: tuple[IDEstimate, ...]) -> str:
    estimate = pick(row, key=lambda estimate: estimate.value)
    return f"{estimate.value:.1f} ± {estimate.stderr:.1f} (layer {estimate.layer})"
