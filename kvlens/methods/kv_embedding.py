"""KV-Embedding: compression prompt, re-routed final-token KV, hybrid pooling."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from kvlens.layers.control import OPTIONS
from kvlens.layers.route import Route
from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.calibration import Calibration, CalibrationLike, with_calibration
from kvlens.rerouting.door import check_route, reroute
from kvlens.store.arguments import text_argument
from kvlens.store.checking import bias, layer_list
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import DEFAULT_DOCUMENT, DEFAULT_QUERY, Prompt

# Settings that decide no pass beside the tokens.
READING = frozenset(field.name for field in fields(Method))


@dataclass(frozen=True)
class KVEmbedding(Method):
    """Tang & Yang 2026.

    layers: block indices to re-route; bias and position: see `reroute`; the others:
    `ControlOptions`, where the default is the paper's prefix.
    """

    name = "kv_embedding"
    paper = "arXiv:2601.01046"
    takes_layers = True
    query: Prompt = DEFAULT_QUERY
    document: Prompt = DEFAULT_DOCUMENT
    pooling: str = "hybrid"
    layers: tuple[int, ...] | None = None
    bias: float | tuple[float, ...] = 1.0
    position: str = "keep"
    heads: Sequence[int] | Mapping[int, Sequence[int]] | None = None
    queries: str = "all"
    source: str | int = "final"
    key: str | Mapping[int, str | Sequence[str]] = "own"
    value: str | Mapping[int, str | Sequence[str]] = "own"
    seed: int = 0
    calibration: CalibrationLike | None = None
    columns: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        text_argument("position", self.position)
        object.__setattr__(self, "bias", bias("bias", self.bias))
        if self.layers is not None:
            object.__setattr__(self, "layers", layer_list("layers", self.layers))

    def for_model(self, lm: LanguageModel) -> KVEmbedding:
        """The method with its layers checked against the model."""
        route = self.route(lm)
        check_route(lm, route)
        changes = {**route.control.changes, "calibration": route.calibration}
        return replace(super().for_model(lm), layers=tuple(self.layers or ()), **changes)

    def settings(self) -> dict[str, Any]:
        """Every setting; those of `ControlOptions` only where they are not the paper's."""
        settings = super().settings()
        for field in fields(self):
            if field.name in OPTIONS and settings[field.name] == field.default:
                del settings[field.name]
        if self.calibration is not None:
            settings["calibration"] = Calibration.of(self.calibration).sha256
        return settings

    def route(self, lm: LanguageModel) -> Route:
        """What is re-routed; raises InputError without layers, and as `Route.of` does."""
        if self.layers is None:
            raise InputError(
                f"{self.name} needs layers: a layer set from `kvlens profile`, or block indices"
            )
        given: Any = {name: getattr(self, name) for name in OPTIONS}
        control = with_calibration(self.layers, given)
        return Route.of(lm.info, self.layers, self.bias, self.position, **control)

    def around_key(self) -> Hashable:
        """What is re-routed, and how; nothing where no layer is."""
        if not self.layers:
            return None
        settings = self.settings()
        route = {name: value for name, value in settings.items() if name not in READING}
        return type(self), json.dumps(route, sort_keys=True)

    @contextlib.contextmanager
    def around(self, lm: LanguageModel, batch: TokenBatch) -> Iterator[TokenBatch]:
        """The pass is re-routed."""
        with reroute(lm, self.route(lm)) as rerouting:
            rerouting.follow(batch)
            yield batch
