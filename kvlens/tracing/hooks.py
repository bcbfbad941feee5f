"""Hooks: which TransformerLens hook point brings which state of a layer into the buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kvlens.models.language_model import LanguageModel
from kvlens.models.rotary import is_rotary, rotate
from kvlens.store.errors import InputError
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.request import Request

Hook = tuple[str, Callable[..., None]]
"""Full name of a hook point, and what is called there with a tensor and ``hook=``."""


def recording_hooks(lm: LanguageModel, request: Request, buffers: Buffers) -> list[Hook]:
    """The hooks that fill `buffers` as `request` asks.

    Args:
        lm: the model; its bridge is built here.
        request: what is kept.
        buffers: where it goes.

    Returns:
        Hooks for `Turn.tap`.

    Raises:
        InputError: when the architecture runs no hook point that is needed: TransformerLens
            itself would be silent.
    """
    live = lm.live_hooks
    hooks: list[Hook] = []
    for at, layer in enumerate(request.layers):
        hooks += LayerHooks(layer, at, buffers, live, is_rotary(lm)).hooks(request)
    absent = [name for name, _ in hooks if name not in live]
    if absent:
        raise InputError(
            f"TransformerLens runs no {absent[0]} for {lm.info.architecture}: cannot record it"
        )
    return hooks


@dataclass
class LayerHooks:
    """The hooks of one layer.

    Attributes:
        layer: the block.
        at: its place among the recorded ones.
        buffers: where the states go.
        live: names of the hook points that fire in this model.
        is_rotary: whether the model rotates its keys.
    """

    layer: int
    at: int
    buffers: Buffers
    live: frozenset[str]
    is_rotary: bool
    # What is held back until the layer's table of sines comes.
    _key: Tensor = field(init=False, repr=False)
    _cos: Tensor = field(init=False, repr=False)

    def hooks(self, request: Request) -> list[Hook]:
        """The hooks for what `request` keeps, in the order in which one state needs another."""
        hooks: list[Hook] = []
        if "hidden" in request.keep:
            hooks.append((f"blocks.{self.layer}.hook_resid_post", self._on_hidden))
        if "v" in request.keep:
            hooks.append((self._name("hook_v"), self._on_value))
        if "k_pre" in request.keep:
            hooks.append((self._key_name, self._on_key_before))
        if "k" in request.keep:
            hooks += self._rotated_key_hooks()
        if request.patterns:
            hooks.append((self._name("hook_pattern"), self._on_pattern))
        return hooks

    def _rotated_key_hooks(self) -> list[Hook]:
        if self._name("hook_rot_k") in self.live:
            return [(self._name("hook_rot_k"), self._on_rotated_key)]
        if self._name("hook_sin") in self.live:
            # Fused QKV: the tables come after the key and before it is rotated.
            return [
                (self._key_name, self._on_key_to_rotate),
                (self._name("hook_cos"), self._on_cos),
                (self._name("hook_sin"), self._on_sin),
            ]
        # A rotary model that shows no rotated key is refused by this name.
        name = self._name("hook_rot_k") if self.is_rotary else self._key_name
        return [(name, self._on_unrotated_key)]

    def _name(self, point: str) -> str:
        return f"blocks.{self.layer}.attn.{point}"

    @property
    def _is_normed(self) -> bool:
        return self._name("hook_k_normed") in self.live

    @property
    def _key_name(self) -> str:
        """Where the key shows before it is rotated, after its norm where the model has one."""
        return self._name("hook_k_normed" if self._is_normed else "hook_k")

    def _final_key(self, states: Tensor) -> Tensor:
        """``[batch, n_kv_heads, d_head]``."""
        if self._is_normed and states.ndim == 4:  # it alone has heads before positions
            states = states.transpose(1, 2)
        info = self.buffers.info
        return self.buffers.final(states).reshape(len(states), info.n_kv_heads, info.d_head)

    def _store(self, kind: str, rows: Tensor) -> None:
        self.buffers.store(kind, self.at, self.layer, rows)

    def _on_hidden(self, states: Tensor, hook: Any) -> None:
        self.buffers.store_hidden(self.at, self.layer, states)

    def _on_value(self, states: Tensor, hook: Any) -> None:
        self._store("v", self.buffers.final(states))

    def _on_key_before(self, states: Tensor, hook: Any) -> None:
        self._store("k_pre", self._final_key(states))

    def _on_rotated_key(self, states: Tensor, hook: Any) -> None:
        self._store("k", self.buffers.final(states))

    def _on_unrotated_key(self, states: Tensor, hook: Any) -> None:
        self._store("k", self._final_key(states))

    def _on_key_to_rotate(self, states: Tensor, hook: Any) -> None:
        self._key = self._final_key(states)

    def _on_cos(self, cos: Tensor, hook: Any) -> None:
        self._cos = self._final_table(cos)

    def _on_sin(self, sin: Tensor, hook: Any) -> None:
        self._store("k", rotate(self._key, self._cos, self._final_table(sin)))

    def _final_table(self, table: Tensor) -> Tensor:
        """A table ``[1 or batch, seq_len, rotary_dim]`` at each text's final real token."""
        return self.buffers.final(table.expand(len(self.buffers.batch.rows), -1, -1))

    def _on_pattern(self, weights: Tensor, hook: Any) -> None:
        self.buffers.store_patterns(self.at, weights)
