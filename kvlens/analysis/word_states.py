"""Word states: every state of some texts that is read as words, ready for the model's head.

It projects; which tokens come first, and whose words they are, is `word_reading`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.analysis.head_writes import LayerWrites
from kvlens.analysis.spectra import is_constant
from kvlens.analysis.vocabulary import Vocabulary
from kvlens.analysis.word_lens import Place
from kvlens.tracing.trace import Trace

SHORTEST = 1e-30  # length that an embedding is divided by

Read = tuple[Place, Float[Tensor, "n d_model"]]
"""A place, and its states after the final norm."""


@dataclass(frozen=True)
class WordStates:
    """All states of some texts that are read.

    Attributes:
        trace: of the texts.
        vocabulary: the model's.
        writes: layer -> the way of its values.
        vectors: embeddings, float64, or None.
        normed: whether they are after the final norm.
        heads: whether each query head is read alone.
        skipped: states that are the same for every text, filled while they are read.
    """

    trace: Trace
    vocabulary: Vocabulary
    writes: dict[int, LayerWrites]
    vectors: Float[np.ndarray, "n d_model"] | None
    normed: bool
    heads: bool
    skipped: list[str] = field(default_factory=list)

    @property
    def n_most(self) -> int:
        """How many there are at most."""
        n_heads = sum(each.n_heads for each in self.writes.values()) if self.heads else 0
        once = len(self.trace.layers) + len(self.writes) + (self.vectors is not None)
        return n_heads + once * (2 if self._heads_centred else 1)

    @property
    def _heads_centred(self) -> bool:
        """Single heads, of which there are many, are read once: centred, where texts can be."""
        return self.trace.texts.n > 1

    def all(self) -> Iterator[Read]:
        """Layer by layer, the embedding last."""
        for layer in self.trace.layers:
            yield from self._hidden(layer)
            if layer in self.writes:
                yield from self._values(layer)
        if self.vectors is not None:
            yield from self._embeddings(self.vectors)

    def _hidden(self, layer: int) -> Iterator[Read]:
        states = torch.from_numpy(self.trace.states(layer))
        for centred, each in self._both(states, f"hidden states of layer {layer}"):
            place = Place(kind="hidden", layer=layer, head=None, centred=centred)
            yield place, self.vocabulary.normed(each)

    def _values(self, layer: int) -> Iterator[Read]:
        """Centred values write what values write, less its mean: ``W_O`` is linear."""
        states = torch.from_numpy(self.trace.states(layer, "v"))
        writes = self.writes[layer]
        for centred, each in self._both(states, f"values of layer {layer}"):
            values = each.unflatten(1, (self.trace.heads(layer, "v"), -1))
            written: dict[int | None, Tensor] = {None: writes.summed(values)}
            if self.heads and centred is self._heads_centred:
                written |= dict(enumerate(writes.heads(values).unbind(1)))
            for head, write in written.items():
                place = Place(kind="v", layer=layer, head=head, centred=centred)
                yield place, self.vocabulary.normed(writes.added(write))

    def _embeddings(self, vectors: Float[np.ndarray, "n d_model"]) -> Iterator[Read]:
        last = self.vocabulary.normed(torch.from_numpy(self.trace.states(self.trace.layers[-1])))
        lengths = last.norm(dim=1, keepdim=True)
        for centred, each in self._both(torch.from_numpy(vectors).float(), "embeddings"):
            if self.normed:
                states = each / each.norm(dim=1, keepdim=True).clamp(min=SHORTEST) * lengths
            else:
                states = self.vocabulary.normed(each)
            yield Place(kind="embedding", layer=None, head=None, centred=centred), states

    def _both(
        self, states: Float[Tensor, "n d"], what: str
    ) -> Iterator[tuple[bool, Float[Tensor, "n d"]]]:
        """States as they are and, of texts that differ in them, less their mean."""
        yield False, states
        if len(states) < 2:
            return
        if is_constant(states.double().numpy()):
            self.skipped.append(f"{what}, centred: they are the same for every text")
            return
        yield True, states - states.mean(0)
