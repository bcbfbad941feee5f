"""Value Aggregation: the attention's value vectors, pooled over tokens and layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from kvlens.methods.base import Method, layers_between
from kvlens.methods.pooling import POOLINGS
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.texts.batches import TokenBatch


@dataclass(frozen=True)
class ValueAggregation(Method):
    """Zhang et al. 2026: values averaged over `depth`, from and to as shares, and over tokens.

    The default depth, the deeper half, is kvlens's choice: the paper reports that values serve
    better with depth.
    """

    name = "value_aggregation"
    source = "arXiv:2602.01572"
    pooling: str = "mean"
    depth: tuple[float, float] = (0.5, 1.0)

    def for_model(self, lm: LanguageModel) -> ValueAggregation:
        """The method itself; raises InputError for a depth without layers."""
        layers_between(lm, self.depth)
        return self

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch kv_width"]:
        """The pooled mean value; ``kv_width`` is n_kv_heads * d_head."""
        values = _ValueSum(layers_between(lm, self.depth))
        run_base(lm, batch, past_key_values=values, use_cache=True)
        return POOLINGS[self.pooling](values.total / values.count, batch)


class _ValueSum(DynamicCache):
    """A KV cache that adds up the values it is shown and keeps nothing else."""

    def __init__(self, layers: range):
        super().__init__()
        self.summed_layers = layers
        self.total = torch.zeros((), dtype=torch.float32)
        self.count = 0

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """What an attention module calls with its keys and values."""
        if layer_idx in self.summed_layers:
            by_token = value_states.transpose(1, 2).flatten(2)
            self.total = self.total.to(by_token.device) + by_token
            self.count += 1
        return key_states, value_states
