"""KV-Embedding: compression prompt, re-routed final-token KV, hybrid pooling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from kvlens.methods.base import Method, final_hidden
from kvlens.methods.pooling import POOLINGS
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import check_request, reroute
from kvlens.store.errors import InputError
from kvlens.texts.prompts import DEFAULT_DOCUMENT, DEFAULT_QUERY, Prompt
from kvlens.texts.tokens import TokenBatch


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

    def for_model(self, lm: LanguageModel) -> KVEmbedding:
        if self.layers is None:
            raise InputError(
                "kv_embedding needs layers: a layer set from `kvlens profile`, or block indices"
            )
        method = replace(self, layers=tuple(self.layers))
        check_request(lm, method.layers or (), method.bias, method.position)
        return method

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> torch.Tensor:
        layers = self.for_model(lm).layers or ()
        with reroute(lm, layers, self.bias, self.position) as routing:
            routing.last = batch.last
            return POOLINGS[self.pooling](final_hidden(lm, batch), batch)
