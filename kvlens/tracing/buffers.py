"""Buffers: the tensors of a trace, allocated once and filled batch by batch.

They know which row of a padded batch belongs to which text; which hook brings what is `hooks`'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from kvlens.models.forward import finite_or_refuse
from kvlens.models.info import ModelInfo
from kvlens.texts.batches import TokenBatch
from kvlens.tracing.request import Request

DTYPE = torch.float32  # said, since torch's default is another while a thread loads a model


class Buffers:
    """The kept rows of all texts.

    Attributes:
        batch: what runs through the model now; set before each pass.
        n_texts: how many there are.
        tensors: as in `Trace.tensors`, float32 on the CPU.
    """

    batch: TokenBatch

    def __init__(self, info: ModelInfo, request: Request, lengths: Sequence[int]):
        """Allocate them.

        Args:
            info: of the model.
            request: what is kept.
            lengths: tokens of each text, prompt included.
        """
        self.info = info
        self.n_texts = len(lengths)
        self.points = request.points
        self.depth = len(request.layers)
        per_text = lengths if request.points == "all" else [1] * len(lengths)
        self.starts = np.concatenate([[0], np.cumsum(per_text, dtype=int)])
        self.tensors: dict[str, Tensor] = {}
        for kind in request.keep:
            self.tensors[kind] = torch.empty(self._shape(kind, len(lengths)), dtype=DTYPE)
        if request.points == "all" and "hidden" in request.keep:
            text_index = np.repeat(np.arange(len(lengths)), lengths)
            self.tensors["text_index"] = torch.from_numpy(text_index)

    def _shape(self, kind: str, n_texts: int) -> tuple[int, ...]:
        if kind == "hidden":
            return int(self.starts[-1]), self.depth, self.info.d_model
        return n_texts, self.depth, self.info.n_kv_heads, self.info.d_head

    def final(self, states: Shaped[Tensor, "batch seq_len ..."]) -> Shaped[Tensor, "batch ..."]:
        """Each text's final real token."""
        last = self.batch.last.to(states.device)
        return states[torch.arange(len(states), device=states.device), last]

    def store(self, kind: str, at: int, layer: int, rows: Float[Tensor, "batch ..."]) -> None:
        """Keep one row per text.

        Args:
            kind: one of `KEEP`.
            at: place of the layer among the recorded ones.
            layer: the block, for the message.
            rows: the states, any shape with the right number of elements.

        Raises:
            InputError: on NaN or infinity.
        """
        finite_or_refuse(rows, f"{kind} of layer {layer}", self.info)
        target = self.tensors[kind]
        shaped = rows.reshape(len(rows), *target.shape[2:])
        target[self.batch.rows.cpu(), at] = shaped.float().cpu()

    def store_hidden(
        self, at: int, layer: int, states: Float[Tensor, "batch seq_len d_model"]
    ) -> None:
        """Keep the hidden states that the request asks for.

        Args:
            at: place of the layer among the recorded ones.
            layer: the block, for the message.
            states: the residual stream after it.

        Raises:
            InputError: on NaN or infinity.
        """
        if self.points == "last":
            self.store("hidden", at, layer, self.final(states))
        elif self.points == "mean":
            self.store("hidden", at, layer, self._mean(states))
        else:
            self._store_every_token(at, layer, states)

    def _mean(self, states: Tensor) -> Tensor:
        mask = self.batch.mask
        weights = (mask / mask.sum(1, keepdim=True)).to(torch.float32)
        return torch.einsum("bt,btd->bd", weights, states.float())

    def _store_every_token(self, at: int, layer: int, states: Tensor) -> None:
        target = self.tensors["hidden"]
        rows = self.batch.rows.tolist()
        for row, is_real, text in zip(rows, self.batch.mask.bool(), states, strict=True):
            tokens = text[is_real]
            finite_or_refuse(tokens, f"hidden of layer {layer}", self.info)
            target[self.starts[row] : self.starts[row + 1], at] = tokens.float().cpu()

    def store_patterns(
        self, at: int, weights: Float[Tensor, "batch n_heads seq_len seq_len"]
    ) -> None:
        """Keep the attention weights among the real tokens of each text.

        Args:
            at: place of the layer among the recorded ones.
            weights: rows of queries, columns of keys.
        """
        rows = self.batch.rows.tolist()
        for row, is_real, pattern in zip(rows, self.batch.mask.bool(), weights, strict=True):
            real = pattern[:, is_real][:, :, is_real]
            name = f"pattern.{row}"
            if name not in self.tensors:
                self.tensors[name] = torch.empty((self.depth, *real.shape), dtype=DTYPE)
            self.tensors[name][at] = real.float().cpu()
