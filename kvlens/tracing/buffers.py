"""Buffers: the tensors of a trace, filled batch by batch.

They know which row of a padded batch belongs to which text; which hook brings what is `hooks`'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from kvlens.models.anatomy import Anatomy
from kvlens.models.forward import (
    SeveralStreams,
    finite_or_refuse,
    hidden_or_refuse,
    is_one_stream,
)
from kvlens.models.info import ModelInfo
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.tracing.allocation import DTYPE, empty_tensors, layers_with_keys
from kvlens.tracing.kinds import KINDS, POSITION_ZERO, base_of, kind_of
from kvlens.tracing.position_zero import PositionZero, length_ratios
from kvlens.tracing.request import Request
from kvlens.tracing.staging import Staging


class OtherStates(InputError):
    """A hook brought states of another shape than the layer's."""


class Buffers:
    """The kept rows of all texts.

    Attributes:
        batch: what runs through the model now, see `filled`.
        rows: which texts it has, on the CPU.
        ends: where each of them begins and ends in it, after the padding and before it.
        staging: brings rows from the device.
        tensors: as in `Trace.tensors`, float32 on the CPU.
        position_zero: the lengths of position 0's states, whether or not they are kept.
    """

    batch: TokenBatch
    rows: Tensor
    ends: list[tuple[int, int]]

    def __init__(
        self,
        anatomy: Anatomy,
        info: ModelInfo,
        request: Request,
        lengths: Sequence[int],
        spans: Mapping[str, Sequence[range]] = MappingProxyType({}),
    ):
        """Allocate them.

        Args:
            anatomy: as in `empty_tensors`.
            info: as there.
            request: as there.
            lengths: as there.
            spans: as there.
        """
        self.info = info
        self.staging = Staging()
        self.lengths = lengths
        self.spans = spans
        self.points = request.points
        self.depth = len(request.layers)
        self.layers = request.layers
        self.with_keys = layers_with_keys(anatomy, request)
        per_text = lengths if request.points == "all" else [1] * len(lengths)
        self.starts = np.concatenate([[0], np.cumsum(per_text, dtype=int)])
        self.position_zero = PositionZero(len(lengths), info.n_layers)
        self.tensors = empty_tensors(anatomy, info, request, lengths, spans)
        self.stored: set[str] = set()  # kind and layer

    def by_layer(self) -> dict[str, Tensor]:
        """Kind and layer, as in ``k.3`` -> the states of all texts there."""
        states: dict[str, Tensor] = {}
        for name, tensor in self.tensors.items():
            kind = kind_of(name)
            if base_of(kind) not in KINDS:
                continue
            if kind == name:
                layers = self.layers if name == "hidden" else self.with_keys
                states |= {f"{name}.{layer}": tensor[:, at] for at, layer in enumerate(layers)}
            else:
                states[name] = tensor
        return states

    def check_filled(self) -> None:
        """Raise InputError for a layer that no pass brought states of: its block did not run."""
        missing = sorted(self.by_layer().keys() - self.stored)
        if missing:
            kind, layer = missing[0].split(".")
            raise InputError(
                f"layer {layer} of {self.info.name} does not run on text alone: "
                f"there is no {kind} of it; record other `layers`"
            )

    def keep_position_zero(self) -> None:
        """Add the lengths of position 0's states to the tensors, where all are known."""
        ratios = self.position_zero.whole()
        if ratios is not None:
            self.tensors[POSITION_ZERO] = ratios

    @contextlib.contextmanager
    def filled(self, batch: TokenBatch) -> Iterator[None]:
        """Within it, states of a batch are kept; at its end, all of them are here.

        Args:
            batch: padded on either side.

        Raises:
            InputError: on NaN or infinity, which is looked for where the numbers come to.
        """
        self.batch = batch
        self.rows = batch.rows.cpu()
        last = batch.last.tolist()
        counts = [self.lengths[row] for row in self.rows.tolist()]
        self.ends = [(end + 1 - n, end + 1) for end, n in zip(last, counts, strict=True)]
        try:
            yield
            self.staging.flush()
        finally:
            self.staging.clear()  # what a pass that did not end has left on the device

    def final(self, states: Shaped[Tensor, "batch seq_len ..."]) -> Shaped[Tensor, "batch ..."]:
        """Each text's final real token."""
        last = self.batch.last.to(states.device)
        return states[torch.arange(len(states), device=states.device), last]

    def store(self, kind: str, layer: int, rows: Float[Tensor, "batch ..."]) -> None:
        """Keep one layer's states of a kind, a row a text.

        Args:
            kind: one of `KINDS`, not hidden.
            layer: the block.
            rows: the states, any shape with the right number of elements.

        Raises:
            InputError: on NaN or infinity.
            OtherStates: (an `InputError`) for another number of elements.
        """
        target = self._target(kind, layer)
        if rows[0].numel() != target[0].numel():
            raise OtherStates(
                f"{kind} of layer {layer} of {self.info.name} is {list(rows.shape)}, "
                f"not of {list(target.shape[1:])} numbers a text: it cannot be recorded"
            )
        self._stage(rows.reshape(len(rows), *target.shape[1:]), kind, layer, target, self.rows)
        self.stored.add(f"{kind}.{layer}")

    def _stage(
        self, rows: Tensor, kind: str, layer: int, target: Tensor, place: Tensor | slice
    ) -> None:
        """Bring rows to their place in a target."""
        self.staging.add(rows, partial(self._write, f"{kind} of layer {layer}", target, place))

    def _write(self, what: str, target: Tensor, place: Tensor | slice, numbers: Tensor) -> None:
        finite_or_refuse(numbers, what, self.info)
        target[place] = numbers

    def _target(self, kind: str, layer: int) -> Tensor:
        """Where a layer's states go."""
        target = self.tensors.get(f"{kind}.{layer}")
        return self.tensors[kind][:, self.with_keys.index(layer)] if target is None else target

    def store_spans(
        self, kind: str, layer: int, states: Float[Tensor, "batch heads seq_len width"]
    ) -> None:
        """Keep the keys or values of the spans' tokens, a row a token, text by text.

        Args:
            kind: one of `OF_ANY_TOKEN`.
            layer: the block.
            states: of all tokens of the batch.

        Raises:
            InputError: on NaN or infinity.
        """
        for span, places in self.spans.items():
            name = f"{kind}@{span}"
            target = self._target(name, layer)
            starts = np.concatenate([[0], np.cumsum([len(each) for each in places])])
            for row, (begin, _), text in self._texts(states):
                place = places[row]
                tokens = text[:, begin + place.start : begin + place.stop].transpose(0, 1)
                where = slice(starts[row], starts[row + 1])
                self._stage(tokens, name, layer, target, where)
            self.stored.add(f"{name}.{layer}")

    def _texts(self, states: Tensor) -> Iterator[tuple[int, tuple[int, int], Tensor]]:
        """Each text's number, where it begins and ends in the batch, and its states."""
        return zip(self.rows.tolist(), self.ends, states, strict=True)

    def store_length(self, column: int, states: Tensor) -> None:
        """Keep the lengths of position 0's states, see `PositionZero`.

        Args:
            column: 0 before the first block, else 1 + the index of the block before.
            states: the residual stream there; several streams have no ratio.
        """
        mask = self.batch.mask
        if is_one_stream(states, self.info) and states.shape[:2] == mask.shape:
            ratios = length_ratios(states, mask.to(states.device))
            self.staging.add(ratios, partial(self.position_zero.store, column, self.rows))

    def store_hidden(
        self, at: int, layer: int, states: Float[Tensor, "*batch seq_len d_model"]
    ) -> None:
        """Keep the hidden states that the request asks for.

        Args:
            at: place of the layer among the recorded ones.
            layer: the block, for the message.
            states: the residual stream after it.

        Raises:
            InputError: on NaN or infinity.
            SeveralStreams: (an `InputError`) for more than one hidden state a token.
        """
        try:
            hidden_or_refuse(states, layer, self.info)
        except SeveralStreams as error:
            alone = "record or measure its keys and values (k, k_pre, v) alone"
            raise SeveralStreams(f"{error}; {alone}") from error
        self.stored.add(f"hidden.{layer}")
        if self.points == "all":
            self._store_every_token(at, layer, states)
            return
        rows = self.final(states) if self.points == "last" else self._mean(states)
        self._stage(rows, "hidden", layer, self.tensors["hidden"][:, at], self.rows)

    def _mean(self, states: Tensor) -> Tensor:
        mask = self.batch.mask.to(states.device)
        weights = (mask / mask.sum(1, keepdim=True)).to(torch.float32)
        return torch.einsum("bt,btd->bd", weights, states.float())

    def _store_every_token(self, at: int, layer: int, states: Tensor) -> None:
        target = self.tensors["hidden"][:, at]
        for row, (begin, end), text in self._texts(states):
            where = slice(self.starts[row], self.starts[row + 1])
            self._stage(text[begin:end], "hidden", layer, target, where)

    def store_patterns(
        self, at: int, weights: Float[Tensor, "batch n_heads seq_len seq_len"]
    ) -> None:
        """Keep the attention weights among the real tokens of each text.

        Args:
            at: place of the layer among the recorded ones.
            weights: rows of queries, columns of keys.
        """
        for row, (begin, end), pattern in self._texts(weights):
            real = pattern[:, begin:end, begin:end]
            name = f"pattern.{row}"
            if name not in self.tensors:
                self.tensors[name] = torch.empty((self.depth, *real.shape), dtype=DTYPE)
            self.staging.add(real, partial(_fill, self.tensors[name][at]))


def _fill(target: Tensor, numbers: Tensor) -> None:
    target.copy_(numbers)
