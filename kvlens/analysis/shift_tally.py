"""Shift tally: what both passes of a batch say, as the quantities of an `AttentionShift`."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kvlens.analysis.attention import KINDS, NEIGHBOURS
from kvlens.analysis.binned_sums import BinnedSums, Placement
from kvlens.analysis.two_passes import LayerAttention
from kvlens.layers.route import Route
from kvlens.models.info import ModelInfo
from kvlens.texts.batches import TokenBatch

PerQuery = Float[Tensor, "batch n_heads seq_len"]
States = Float[Tensor, "batch seq_len d_model"]
Masses = dict[str, PerQuery]
Moves = dict[str, Float[Tensor, "batch 1 seq_len"]]


class ShiftTally:
    """The quantities of a corpus, batch by batch; see `AttentionShift` for what they are.

    Attributes:
        sums: over the tokens of each bin.
        of_batch: the same of the batch that runs, of which memory may turn out to be short.
        ends: kind -> mean beta at both ends of each text.
    """

    def __init__(self, info: ModelInfo, route: Route, bins: int, n_texts: int):
        self.route = route
        self.bins = bins
        self.sums = BinnedSums(info)
        self.of_batch = BinnedSums(info)
        shape = (n_texts, 2, len(route.layers), info.n_heads)
        self.ends = {kind: np.empty(shape, np.float32) for kind in KINDS}
        self.batch: TokenBatch
        self.placement: Placement
        self.mass_before: dict[int, Masses] = {}  # by layer, from the first pass to the second

    def begin(self, batch: TokenBatch, counted: Bool[Tensor, "batch seq_len"]) -> None:
        """Take the next batch; `counted` are the tokens whose positions count.

        What an earlier one has added is forgotten unless it is kept.
        """
        self.of_batch.sums.clear()
        self.mass_before.clear()
        self.batch = batch
        self.placement = Placement.of(counted, batch.last, self.bins)

    def on_attention(self, seen: LayerAttention) -> None:
        """Count one layer's attention in one pass."""
        seq_len = self.batch.ids.shape[1]
        mass = region_mass(seen.weights[..., -seq_len:], self.batch)
        entropy = torch.special.entr(seen.weights).sum(-1)
        if seen.kind == "local":
            self._add_weights("before", seen.layer, mass, entropy)
            self.mass_before[seen.layer] = mass
            lost = {name: seen.beta * weight for name, weight in mass.items()}
            entropy = _entropy_beside(entropy, seen.beta)
        else:
            before = self.mass_before.pop(seen.layer)
            lost = {name: before[name] - weight for name, weight in mass.items()}
        self._add(f"beta.{seen.kind}", seen.layer, seen.beta)
        self._add_weights(seen.kind, seen.layer, lost, entropy)
        self._note_ends(seen)

    def on_hidden(self, layer: int, before: States, after: States) -> None:
        """Count how one layer's hidden states moved."""
        for name, values in moves(before, after).items():
            self._add(name, layer, values)
        for name, values in final_cosines(before, after, self.batch.last).items():
            self.of_batch.add(name, layer, values, self.placement.without_final)

    def keep(self) -> None:
        """Keep what the batch has added."""
        self.sums.add_all(self.of_batch)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of an `AttentionShift`."""
        return self.sums.arrays() | {f"ends.{kind}": ends for kind, ends in self.ends.items()}

    def _add(self, name: str, layer: int, values: PerQuery) -> None:
        self.of_batch.add(name, layer, values, self.placement.bins)

    def _add_weights(self, kind: str, layer: int, mass: Masses, entropy: PerQuery) -> None:
        for name, values in mass.items():
            self._add(f"{name}.{kind}", layer, values)
        self._add(f"entropy.{kind}", layer, entropy)
        self._add(f"context.{kind}", layer, entropy.exp())

    def _note_ends(self, seen: LayerAttention) -> None:
        beta = seen.beta.cpu().double()
        per_text = torch.einsum("bht,bte->beh", beta, self.placement.ends)
        rows = self.batch.rows.cpu().numpy()
        at = self.route.layers.index(seen.layer)
        self.ends[seen.kind][rows, :, at] = per_text.numpy()


def region_mass(
    weights: Float[Tensor, "batch n_heads queries keys"], batch: TokenBatch
) -> dict[str, Float[Tensor, "batch n_heads queries"]]:
    """A query's weight on the sink, on its neighbours and on the prompt (they overlap).

    Args:
        weights: on the tokens themselves, without a prefix.
        batch: padded on the right, so that position 0 is a real token.

    Returns:
        Region -> weight.
    """
    position = torch.arange(weights.shape[-1], device=weights.device)
    back = position[:, None] - position
    near = ((back > 0) & (back <= NEIGHBOURS)).float()
    prompt = (batch.mask.bool() & ~batch.text_mask).float()
    return {
        "sink": weights[..., 0],
        "neighbours": torch.einsum("bhij,ij->bhi", weights, near),
        "prompt": torch.einsum("bhij,bj->bhi", weights, prompt),
    }


def _entropy_beside(entropy: PerQuery, beta: PerQuery) -> PerQuery:
    """Entropy of weights that are scaled by 1 - beta, with beta beside them, in nats."""
    return (1 - beta) * entropy + torch.special.entr(beta) + torch.special.entr(1 - beta)


def moves(before: States, after: States) -> Moves:
    """How far every hidden state moved: ``moved.relative`` and ``moved.cosine``."""
    relative = (after - before).norm(dim=-1) / before.norm(dim=-1)
    cosine = cosine_similarity(before, after, dim=-1)
    return {"moved.relative": relative[:, None], "moved.cosine": cosine[:, None]}


def final_cosines(
    before: States,
    after: States,
    last: Int[Tensor, " batch"],
) -> Moves:
    """Moves with the final token: ``final.before``, ``final.after`` and ``final.towards``."""
    rows = torch.arange(len(before), device=before.device)
    final = before[rows, last][:, None]
    final_after = after[rows, last][:, None]
    cosines = {
        "final.before": cosine_similarity(before, final, dim=-1),
        "final.after": cosine_similarity(after, final_after, dim=-1),
        "final.towards": cosine_similarity(after - before, final - before, dim=-1),
    }
    return {name: cosine[:, None] for name, cosine in cosines.items()}
