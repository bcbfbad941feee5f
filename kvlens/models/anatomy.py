"""Anatomy: what a transformers model is made of, block by block, as plain values.

How it is found is `dissection`'s; nothing here knows an architecture by its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from torch.nn import Module, ModuleList

from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

Kind = Literal["full", "sliding", "chunked", "linear", "convolution", "none"]
"""What a block's tokens see of each other: all before them, a window, a chunk; by a recurrence
or a convolution, without keys; or nothing."""

Rotation = Literal["none", "half", "interleaved", "other"]
"""Which dimensions of a key turn together: i and i + width / 2, or 2 i and 2 i + 1."""


@dataclass(frozen=True)
class LayerAnatomy:
    """One decoder block.

    Attributes:
        layer: its index.
        kind: what its tokens see of each other.
        attention: path of the attention module in the block; empty where it has none.
        n_heads: query heads.
        n_kv_heads: heads of keys and values.
        d_key: width of a head's query and key.
        d_value: width of a head's value.
        rotation: of queries and keys.
        rotary_dim: how many of a key's dimensions turn.
        rotary_start: the first of them.
        key_norm: whether keys are normed, ``before`` or ``after`` the rotation.
        sink: whether a learned logit takes weight from all keys.
        soft_cap: of the attention logits.
        latent: whether its KV cache keeps what keys and values are expanded from.
        takes_cache: whether a KV cache may stand for another, and so a prefix before its keys.
        shares: whether its keys and values are ones that another block ``stores`` (it ``reads``
            them), or that it stores for others.
    """

    layer: int
    kind: Kind = "none"
    attention: str = ""
    n_heads: int = 0
    n_kv_heads: int = 0
    d_key: int = 0
    d_value: int = 0
    rotation: Rotation = "none"
    rotary_dim: int = 0
    rotary_start: int = 0
    key_norm: Literal["none", "before", "after"] = "none"
    sink: bool = False
    soft_cap: float | None = None
    latent: bool = False
    takes_cache: bool = True
    shares: Literal["none", "stores", "reads"] = "none"

    @property
    def has_keys(self) -> bool:
        """Whether it makes keys and values of its own."""
        return self.n_kv_heads > 0 and self.shares != "reads"

    @property
    def can_reroute(self) -> bool:
        """Whether a prefix can stand in it and stays in it."""
        return self.has_keys and self.shares == "none" and self.takes_cache

    def size_of(self, kind: str) -> tuple[int, int]:
        """Heads and width of its keys; of its values (v), queries (q), and heads' outputs (z)."""
        heads = self.n_heads if kind in ("q", "z") else self.n_kv_heads
        return heads, self.d_value if kind in ("v", "z") else self.d_key

    @property
    def words(self) -> str:
        """What it is, in a line."""
        if not self.n_heads:
            return f"{self.kind}: no keys" if self.kind != "none" else "no keys"
        parts = [
            f"{self.kind} attention",
            f"{self.n_heads} heads on {self.n_kv_heads} KV heads of {self._widths}",
            self._rotation_words,
        ]
        if self.key_norm != "none":
            parts.append(f"key norm {self.key_norm} rotation")
        if self.sink:
            parts.append("sink")
        if self.soft_cap is not None:
            parts.append(f"soft cap {self.soft_cap:g}")
        if self.latent:
            parts.append("latent cache")
        if not self.takes_cache:
            parts.append("KV cache of its own kind")
        if self.shares != "none":
            parts.append(f"{self.shares} shared K and V")
        return ", ".join(parts)

    @property
    def _widths(self) -> str:
        if self.d_key == self.d_value:
            return f"{self.d_key}"
        return f"{self.d_key} (K) and {self.d_value} (V)"

    @property
    def _rotation_words(self) -> str:
        if self.rotation == "none":
            return "no rotation"
        part = "" if self.rotary_dim == self.d_key else f" of {self.rotary_dim} dimensions"
        return f"{self.rotation} rotation{part}"


@dataclass(frozen=True)
class Anatomy:
    """A model's blocks.

    Attributes:
        layers: one entry a block.
    """

    layers: tuple[LayerAnatomy, ...]

    @property
    def key_layers(self) -> tuple[int, ...]:
        """Blocks that make keys and values."""
        return tuple(each.layer for each in self.layers if each.has_keys)

    @property
    def reroutable(self) -> tuple[int, ...]:
        """Blocks that can be re-routed."""
        return tuple(each.layer for each in self.layers if each.can_reroute)

    @property
    def first(self) -> LayerAnatomy:
        """The first block that has keys."""
        return self.layers[self.key_layers[0]]

    def lines(self) -> Iterator[str]:
        """What the blocks are, one line for all that are alike."""

        def words(each: LayerAnatomy) -> str:
            return each.words

        for what, alike in groupby(sorted(self.layers, key=words), words):
            yield f"{phrase([each.layer for each in alike])}: {what}"


def decoder_of(hf: Any) -> Any:
    """The decoder of a causal LM: its blocks between embedding and final norm, no LM head.

    Args:
        hf: a transformers causal LM, or the tree of a bridge over one.

    Returns:
        The module; of a model with more than one tower it is the text's.
    """
    decoder = hf.get_decoder()
    if _lists_of(decoder):
        return decoder
    # Some models give themselves, or their head: the decoder is what holds the blocks.
    holders = [module for module in (*decoder.modules(), *hf.modules()) if _lists_of(module)]
    return holders[0] if holders else decoder


def _lists_of(module: Module) -> list[ModuleList]:
    return [child for child in module.children() if isinstance(child, ModuleList)]


def blocks_of(decoder: Module, architecture: str) -> ModuleList:
    """The decoder blocks, in order.

    Args:
        decoder: as `decoder_of` finds it.
        architecture: for the message.

    Returns:
        Its one list of modules, or that of as many as the config counts layers.

    Raises:
        InputError: when it has none, or several.
    """
    lists = _lists_of(decoder)
    if len(lists) > 1:
        n_layers = getattr(getattr(decoder, "config", None), "num_hidden_layers", None)
        lists = [each for each in lists if len(each) == n_layers]
    if len(lists) != 1:
        raise InputError(
            f"{architecture} has no single list of decoder blocks: load its text model alone"
        )
    return lists[0]
