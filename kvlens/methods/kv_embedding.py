"""KV-Embedding: compression prompt, re-routed final-token KV, hybrid pooling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kvlens.layers.route import Route
from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.door import check_route, reroute
from kvlens.store.arguments import text_argument
from kvlens.store.checking import bias, layer_list
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import DEFAULT_DOCUMENT, DEFAULT_QUERY, Prompt


@dataclass(frozen=True)
class KVEmbedding(Method):
    """Tang & Yang 2026. layers: block indices to re-route; bias and position: see `reroute`."""

    name = "kv_embedding"
    source = "arXiv:2601.01046"
    takes_layers = True
    query: Prompt = DEFAULT_QUERY
    document: Prompt = DEFAULT_DOCUMENT
    pooling: str = "hybrid"
    layers: tuple[int, ...] | None = None
    bias: float | tuple[float, ...] = 1.0
    position: str = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        text_argument("position", self.position)
        object.__setattr__(self, "bias", bias("bias", self.bias))
        if self.layers is not None:
            object.__setattr__(self, "layers", layer_list("layers", self.layers))

    def for_model(self, lm: LanguageModel) -> KVEmbedding:
        """The method with its layers checked against the model."""
        check_route(lm, self.route(lm))
        return replace(super().for_model(lm), layers=tuple(self.layers or ()))

    def route(self, lm: LanguageModel) -> Route:
        """What is re-routed; raises InputError without layers, and as `Route.of` does."""
        if self.layers is None:
            raise InputError(
                "kv_embedding needs layers: a layer set from `kvlens profile`, or block indices"
            )
        return Route.of(lm.info, self.layers, self.bias, self.position)

    @contextlib.contextmanager
    def around(self, lm: LanguageModel, batch: TokenBatch) -> Iterator[TokenBatch]:
        """The pass is re-routed."""
        with reroute(lm, self.route(lm)) as rerouting:
            rerouting.last = batch.last
            yield batch
