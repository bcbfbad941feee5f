"""Hooks: what brings which state of a layer into the buffers.

A TransformerLens hook point where one shows the state; else the attention module's own call, made
again with the final token alone. See `source` for which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.models.anatomy import LayerAnatomy
from kvlens.models.attention_call import STATES, AttentionCall, states_of
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.models.turns import Turn
from kvlens.texts.batches import TokenBatch
from kvlens.tracing.attention_hooks import AttentionHooks
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.request import Request
from kvlens.tracing.source import KEYS_AND_VALUES, Source

Tap = tuple[str, Callable[..., None]]
"""Full name of a hook point, and what is called there with a tensor and ``hook=``."""


def record_batch(
    lm: LanguageModel, batch: TokenBatch, request: Request, buffers: Buffers, source: Source
) -> None:
    """Run a batch through the model, no further than the last layer asked for, and keep states.

    Args:
        lm: the model.
        batch: padded on either side.
        request: what is kept.
        buffers: where it goes.
        source: where each kind of state is read.

    Raises:
        InputError: on NaN or infinity, inside a `with reroute` block, and for a model in train
            mode.
    """
    with torch.inference_mode(), lm.turn("measurement") as turn, buffers.filled(batch):
        if source.tree == "bridge":
            lm.live_hooks  # by a pass of its own, before there are hooks  # noqa: B018
        taps: list[Tap] = []
        for at, layer in enumerate(request.layers):
            hooks = LayerHooks(lm, lm.anatomy.layers[layer], at, buffers, source)
            hooks.hang(turn, request)
            taps += hooks.taps(request)
        if source.tree == "raw":
            run_base(lm, batch)
        else:
            turn.tap(lm.bridge, taps)
            _run_bridge(lm, batch, stop=request.layers[-1] + 1)


def _run_bridge(lm: LanguageModel, batch: TokenBatch, stop: int) -> None:
    options: dict[str, Any] = {"return_type": None, "use_cache": False}
    if stop < lm.info.n_layers:
        options["stop_at_layer"] = stop
    if not any(layer.shares == "reads" for layer in lm.anatomy.layers):
        options["logits_to_keep"] = (
            1  # it would cut the tokens before a block that reads others' keys
        )
    lm.bridge(batch.ids, attention_mask=batch.mask, position_ids=batch.positions, **options)


def key_point(layer: LayerAnatomy, live: frozenset[str]) -> str:
    """Where the bridge shows a key before it is rotated, after its norm where it has one then."""
    normed = f"blocks.{layer.layer}.attn.hook_k_normed"
    if layer.key_norm == "before" and normed in live:
        return normed
    return f"blocks.{layer.layer}.attn.hook_k"


def rotated_key_point(layer: LayerAnatomy, live: frozenset[str]) -> str:
    """Where the bridge shows a key as queries meet it."""
    if layer.rotation == "none":
        return key_point(layer, live)
    return f"blocks.{layer.layer}.attn.hook_rot_k"


@dataclass(frozen=True)
class LayerHooks:
    """The hooks of one layer.

    Attributes:
        lm: the model.
        layer: what it is.
        at: its place among the recorded ones.
        buffers: where the states go.
        source: where each kind of state is read.
    """

    lm: LanguageModel
    layer: LayerAnatomy
    at: int
    buffers: Buffers
    source: Source

    def hang(self, turn: Turn, request: Request) -> None:
        """Hang those on modules."""
        number = self.layer.layer
        if self.source.tree == "raw":
            self._hang_on_block(turn, request)
        again = self._kinds(request) & self.source.again
        if again:
            attention = self.lm.attention(number, self.source.tree)
            turn.before(attention, partial(self._on_call, kinds=again), with_kwargs=True)

        if request.raw_alone and self.layer.has_keys:
            AttentionHooks(self.lm, number, self.buffers).hang(turn, request)

    def _hang_on_block(self, turn: Turn, request: Request) -> None:
        """Hang those that read hidden states."""
        block = self.lm.blocks[self.layer.layer]
        if "hidden" in request.keep:
            turn.after(block, self._on_block)
        if request.position_zero:
            turn.after(block, self._on_output)
        if request.position_zero and self.layer.layer == 0:
            turn.before(block, self._on_input, with_kwargs=True)

    def taps(self, request: Request) -> list[Tap]:
        """Those at the bridge's hook points."""
        if self.source.tree == "raw":
            return []
        live = self.lm.live_hooks
        points = {
            "v": f"blocks.{self.layer.layer}.attn.hook_v",
            "k_pre": key_point(self.layer, live),
            "k": rotated_key_point(self.layer, live),
        }
        shown = self._kinds(request) - self.source.again
        taps: list[Tap] = [
            (points[kind], partial(self._on_state, kind, points[kind])) for kind in sorted(shown)
        ]
        if "hidden" in request.keep:
            taps.append((f"blocks.{self.layer.layer}.hook_resid_post", self._on_hidden))
        if request.position_zero:
            taps += self._length_taps()
        if request.patterns and self.layer.n_heads:
            taps.append((f"blocks.{self.layer.layer}.attn.hook_pattern", self._on_pattern))
        return taps

    def _length_taps(self) -> list[Tap]:
        """Those of the lengths of position 0's states."""
        number = self.layer.layer
        columns = {f"blocks.{number}.hook_resid_post": 1 + number}
        if number == 0 and "blocks.0.hook_resid_pre" in self.lm.live_hooks:
            columns["blocks.0.hook_resid_pre"] = 0
        return [(point, partial(self._on_length, column=at)) for point, at in columns.items()]

    def _kinds(self, request: Request) -> frozenset[str]:
        """Which keys and values of the layer are kept."""
        return KEYS_AND_VALUES.intersection(request.keep) if self.layer.has_keys else frozenset()

    def _on_block(self, module: Any, args: Any, output: Any) -> None:
        states = states_of(output)
        self.buffers.store_hidden(self.at, self.layer.layer, states)

    def _on_input(self, module: Any, args: Any, kwargs: Any) -> None:
        states = args[0] if args else kwargs[STATES]
        self._on_length(states, None, column=0)

    def _on_output(self, module: Any, args: Any, output: Any) -> None:
        self._on_length(states_of(output), None, column=1 + self.layer.layer)

    def _on_length(self, states: Tensor, hook: Any, column: int) -> None:
        self.buffers.store_length(column, states)

    def _on_call(self, module: Any, args: Any, kwargs: Any, kinds: frozenset[str]) -> None:
        call = AttentionCall.of(self.lm.attention(self.layer.layer), args, kwargs)
        # Keys that go to a cache of another kind may be mixed with those of earlier tokens.
        if self.layer.takes_cache:
            call = call.of_tokens(self.buffers.batch.last.to(call.states.device))
        key, value = call.key_and_value()
        states = {"k": key, "v": value}
        if "k_pre" in kinds:
            states["k_pre"] = call.at("none", None).key_and_value()[0]
        for kind in kinds:
            self.buffers.store(kind, self.layer.layer, self._final(states[kind]))

    def _final(
        self, states: Float[Tensor, "batch heads seq_len width"]
    ) -> Float[Tensor, "batch heads width"]:
        """The final token's, of all tokens or of these alone."""
        if states.shape[2] == 1:
            return states[:, :, 0]
        return self.buffers.final(states.transpose(1, 2))

    def _on_state(self, kind: str, point: str, states: Tensor, hook: Any) -> None:
        if point.endswith("hook_k_normed") and states.ndim == 4:  # it has heads before positions
            states = states.transpose(1, 2)
        self.buffers.store(kind, self.layer.layer, self.buffers.final(states))

    def _on_hidden(self, states: Tensor, hook: Any) -> None:
        self.buffers.store_hidden(self.at, self.layer.layer, states)

    def _on_pattern(self, weights: Tensor, hook: Any) -> None:
        self.buffers.store_patterns(self.at, weights)
