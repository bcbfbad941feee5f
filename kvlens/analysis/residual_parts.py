"""Residual parts: one text's pooled vector as the sum of what each block and head wrote into it.

The residual stream is a sum: the embedding, and what each block adds. The final norm is linear with
its own scale held (`frozen_norm`), and pooling is a weighted sum over tokens. So the vector, before
it is made of unit length, is exactly the sum of its parts: by token, or by block, and within a
block by query head and the rest of the block (the MLP, above all).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.analysis.frozen_norm import FrozenNorm
from kvlens.analysis.head_writes import LayerWrites, head_writes
from kvlens.analysis.residual_pass import ResidualPass, States
from kvlens.analysis.vocabulary import Vocabulary
from kvlens.layers.readout import LAST
from kvlens.methods.base import Method
from kvlens.methods.pooling import POOLINGS
from kvlens.methods.watch import Watch
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch

Norm = Callable[[States], States]


@dataclass(frozen=True)
class AttentionParts:
    """What attention writes into the pooled vector; zeros in blocks without keys.

    Attributes:
        whole: of each block, its biases too, ``[n_blocks, d_model]``.
        heads: of each of its query heads, ``[n_blocks, n_heads, d_model]``.
    """

    whole: Float[Tensor, "n_blocks d_model"]
    heads: Float[Tensor, "n_blocks n_heads d_model"]


@dataclass(frozen=True)
class ResidualParts:
    """A pooled vector, before it is made of unit length, in float64 parts that add up to it.

    Attributes:
        tokens: what each token gives, ``[seq_len, d_model]``.
        ends: what the embedding and the final norm's bias give, ``[2, d_model]``.
        blocks: what each block writes, ``[n_blocks, d_model]``.
        attention: what its attention writes of that; None where the model does not show it.
        after: the vector as it would be after each block, ``[n_blocks, d_model]``.
    """

    tokens: Float[Tensor, "seq_len d_model"]
    ends: Float[Tensor, "2 d_model"]
    blocks: Float[Tensor, "n_blocks d_model"]
    attention: AttentionParts | None
    after: Float[Tensor, "n_blocks d_model"]

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """What the parts add up to."""
        return self.tokens.sum(0)


@dataclass(frozen=True)
class ResidualReader:
    """What takes a model's residual stream apart.

    Attributes:
        lm: the model.
        vocabulary: its way through the final norm.
        writes: layer -> the way of its heads to the residual stream; empty: not told.
    """

    lm: LanguageModel
    vocabulary: Vocabulary
    writes: dict[int, LayerWrites]

    @classmethod
    def of(cls, lm: LanguageModel) -> ResidualReader:
        """Find what is needed, by passes of a few tokens; raises InputError as `Vocabulary.of`."""
        try:
            writes = head_writes(lm)
        except InputError:  # blocks are told all the same
            writes = {}
        return cls(lm, Vocabulary.of(lm), writes)

    def parts(self, method: Method, batch: TokenBatch) -> ResidualParts:
        """One text's vector in parts.

        Args:
            method: of `Method.for_model`; it pools hidden states of a pass that at most re-routing
                changes.
            batch: of one text.

        Returns:
            The parts.

        Raises:
            InputError: as `Method.embed`, for a method that pools no hidden states, where the final
                norm is of another kind, and where states are changed between blocks.
        """
        lm = self.lm
        n_blocks = _blocks_read(lm, method)
        seen = ResidualPass(lm, self.writes)
        with torch.inference_mode(), lm.turn("measurement"):
            with method.around(lm, batch) as run, lm.turn() as turn:
                seen.hang(turn, n_blocks)
                watch = Watch(lm, run)
                method.read(lm, run, watch)
                watch.run()
            _refuse_changes(seen, method)
            return self._parts(method, run, seen)

    def _parts(self, method: Method, run: TokenBatch, seen: ResidualPass) -> ResidualParts:
        n = len(seen.after[-1])
        weights = POOLINGS[method.pooling](torch.eye(n, device=run.ids.device)[None], run)[0]
        weights = weights.double().cpu()
        pooled = _Pooled(self._norm(method), weights, seen.after[-1])
        around = zip(seen.after, seen.before, strict=True)
        return ResidualParts(
            tokens=pooled.by_token(),
            ends=torch.stack([pooled(seen.before[0]), weights.sum() * pooled.frozen.bias]),
            blocks=torch.stack([pooled(after, less=before) for after, before in around]),
            attention=self._attention(pooled, seen),
            after=torch.stack([weights @ pooled.norm(each).double() for each in seen.after]),
        )

    def _norm(self, method: Method) -> Norm:
        return self.vocabulary.normed if method.final_norm else lambda states: states

    def _attention(self, pooled: _Pooled, seen: ResidualPass) -> AttentionParts | None:
        """What attention writes; None where a layer does not show it."""
        read = [layer for layer in self.writes if layer < len(seen.after)]
        if not read or any(layer not in seen.factors for layer in read):
            return None
        shape = (len(seen.after), self.lm.info.n_heads, self.lm.info.d_model)
        heads = torch.zeros(shape, dtype=torch.float64)
        whole = torch.zeros_like(heads[:, 0])
        for layer in read:
            n_heads = self.writes[layer].n_heads
            whole[layer] = seen.factors[layer] * pooled(seen.attention[layer])
            heads[layer, :n_heads] = self._heads(pooled, seen, layer)
        return AttentionParts(whole, heads)

    def _heads(
        self, pooled: _Pooled, seen: ResidualPass, layer: int
    ) -> Float[Tensor, "n_heads d_model"]:
        """What each head of a layer writes; a norm behind its projection is frozen, too."""
        writes = self.writes[layer]
        inner = FrozenNorm.of(writes.added, self.lm.info.d_model)
        scales = inner.scales(seen.projected[layer], seen.attention[layer])
        gains = seen.factors[layer] * scales * pooled.gains
        values = (gains @ seen.values[layer].double()).float()
        alone = writes.heads(values.reshape(1, writes.n_heads, -1))[0]
        return pooled.frozen(inner(alone))


class _Pooled:
    """From states, or parts of them, to the pooled vector, with the final norm's scales held.

    Attributes:
        norm: the final norm itself.
        frozen: the same as a linear map.
        gains: pooling weight times scale, a token.
    """

    def __init__(self, norm: Norm, weights: Tensor, last: States):
        """Of a text's states at the readout."""
        self.norm = norm
        self.frozen = FrozenNorm.of(norm, last.shape[-1])
        self.gains = weights * self.frozen.scales(last, norm(last))
        self._weights = weights
        self._last = last

    def __call__(self, states: States, less: States | None = None) -> Tensor:
        """What states give, or what they have more than others."""
        part = states.double() if less is None else states.double() - less.double()
        return self.frozen(self.gains @ part)

    def by_token(self) -> Tensor:
        """What each token gives, the norm's bias among it."""
        return self.gains[:, None] * self.frozen(self._last) + torch.outer(
            self._weights, self.frozen.bias
        )


def _blocks_read(lm: LanguageModel, method: Method) -> int:
    """How many blocks there are up to the readout."""
    if type(method).read is not Method.read or type(method).embed is not Method.embed:
        raise InputError(f"{method.name} does not pool hidden states: its vector has no such parts")
    readout = LAST if method.readout is None else int(method.readout)
    return readout % lm.info.n_layers + 1


def _refuse_changes(seen: ResidualPass, method: Method) -> None:
    """Raise InputError where a block is not given what the one before gave."""
    for layer, (given, before) in enumerate(zip(seen.before[1:], seen.after, strict=False), 1):
        if not torch.equal(given, before):
            raise InputError(
                f"the states before layer {layer} are not those after layer {layer - 1}: "
                f"{method.name}, or the model, changes them between, so blocks have no shares"
            )
