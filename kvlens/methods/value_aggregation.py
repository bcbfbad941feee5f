"""Value Aggregation: the attention's value vectors, pooled over tokens and layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from kvlens.methods.base import Method, layers_between
from kvlens.methods.pooling import POOLINGS
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.texts.tokens import TokenBatch


@dataclass(frozen=True)
class ValueAggregation(Method):
    """Zhang et al. 2026: values ``[n_kv_heads * d_head]`` averaged over `depth` (shares of the layers) and tokens.

    The default depth, the deeper half, is kvlens's choice: the paper reports that values serve better with depth.
    """

    name = "value_aggregation"
    source = "arXiv:2602.01572"
    pooling: str = "mean"
    depth: tuple[float, float] = (0.5, 1.0)

    def for_model(self, lm: LanguageModel) -> ValueAggregation:
        layers_between(lm, self.depth)
        return self

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> torch.Tensor:
        total = _ValueSum(layers_between(lm, self.depth))
        run_base(lm, batch, past_key_values=total, use_cache=True)
        return POOLINGS[self.pooling](total.value / total.count, batch)


class _ValueSum(DynamicCache):
    """A KV cache that adds up the values it is shown and keeps nothing else."""

    def __init__(self, chosen: range):
        super().__init__()
        self.chosen, self.count, self.value = chosen, 0, torch.zeros(())

    def update(
        self, key_states: Any, value_states: Any, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        if layer_idx in self.chosen:
            self.value = self.value.to(value_states.device) + value_states.transpose(1, 2).flatten(
                2
            )
            self.count += 1
        return key_states, value_states
