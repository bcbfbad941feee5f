"""Aligned weighted VA: what the attention blocks write at the last token, pooled over layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.layers.readout import Readout
from kvlens.methods.base import Method, Read
from kvlens.methods.depth import attention_layers
from kvlens.methods.pooling import last
from kvlens.methods.watch import Watch
from kvlens.models.language_model import LanguageModel
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import PROMPTS, Prompt


@dataclass(frozen=True)
class AlignedWVA(Method):
    """Zhang et al. 2026: values weighted by the last token's attention and mapped by ``W_O``.

    That is the attention block's output at the last token; averaged over `depth`, from and to as
    shares of the layers. Prompt: PromptEOL's, since the weights are only useful where the last
    token has to sum up. The default depth, the deeper half, is kvlens's choice.
    """

    name = "aligned_wva"
    paper = "arXiv:2602.01572"
    reads_states = False
    query: Prompt = PROMPTS["prompt-eol"]
    document: Prompt = PROMPTS["prompt-eol"]
    readout: Readout | None = None
    final_norm: bool | None = None
    depth: tuple[float, float] = (0.5, 1.0)

    def for_model(self, lm: LanguageModel) -> AlignedWVA:
        """The method itself; raises InputError for a depth without attention layers."""
        attention_layers(lm, self.depth)
        return self

    def read(self, lm: LanguageModel, batch: TokenBatch, watch: Watch) -> Read:
        """The mean output of the attention blocks at the last token."""
        outputs: list[Tensor] = []

        def keep(states: Float[Tensor, "batch seq_len d_model"]) -> None:
            outputs.append(last(states, batch))

        for layer in attention_layers(lm, self.depth):
            watch.attention(layer, keep)
        return lambda: torch.stack(outputs).mean(0)
