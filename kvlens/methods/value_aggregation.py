"""Value Aggregation: the attention's value vectors, pooled over tokens and layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kvlens.layers.readout import Readout
from kvlens.methods.base import Method, Read
from kvlens.methods.depth import attention_layers
from kvlens.methods.pooling import POOLINGS
from kvlens.methods.watch import Watch
from kvlens.models.language_model import LanguageModel
from kvlens.models.values import Values
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch


@dataclass(frozen=True)
class ValueAggregation(Method):
    """Zhang et al. 2026: values averaged over `depth`, from and to as shares, and over tokens.

    The default depth, the deeper half, is kvlens's choice: the paper reports that values serve
    better with depth.
    """

    name = "value_aggregation"
    paper = "arXiv:2602.01572"
    reads_states = False
    pooling: str = "mean"
    readout: Readout | None = None
    final_norm: bool | None = None
    depth: tuple[float, float] = (0.5, 1.0)

    def for_model(self, lm: LanguageModel) -> ValueAggregation:
        """The method itself; raises InputError for a depth without values of one size."""
        layers = attention_layers(lm, self.depth)
        sizes = {lm.anatomy.layers[layer].size_of("v") for layer in layers}
        if len(sizes) > 1:
            raise InputError(
                f"the values of {lm.info.name} differ in size between layers: "
                "give a `depth` in which they do not"
            )
        return self

    def width(self, lm: LanguageModel) -> int:
        """The values' numbers: n_kv_heads * d_value."""
        n_heads, d_value = lm.anatomy.layers[attention_layers(lm, self.depth)[0]].size_of("v")
        return n_heads * d_value

    def read(self, lm: LanguageModel, batch: TokenBatch, watch: Watch) -> Read:
        """The pooled mean value."""
        layers = attention_layers(lm, self.depth)
        by_token: list[Tensor] = []

        def keep(values: Values) -> None:
            flat = values.transpose(1, 2).flatten(2)
            by_token[:] = [by_token[0].to(flat.device) + flat if by_token else flat]

        for layer in layers:
            watch.values(layer, keep)
        return lambda: POOLINGS[self.pooling](by_token[0] / len(layers), batch)
