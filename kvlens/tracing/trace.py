"""Trace: what the final token holds at every layer; one safetensors file, or a folder of shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from kvlens.models.info import ModelInfo
from kvlens.store.arrays import check_finite
from kvlens.store.artifact import TensorArtifact
from kvlens.store.bounds import Count
from kvlens.store.checking import arguments, text, whole
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, facts_text
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.kinds import (
    KINDS,
    Points,
    index_of,
    kind_of,
)
from kvlens.tracing.shards import ShardTensors, TraceIndex, forms_of, index_file, stacked
from kvlens.tracing.tensor_facts import tensor_facts
from kvlens.tracing.trace_checks import check_tensors


@dataclass(frozen=True)
class Trace(TensorArtifact):
    """Recorded states of ``n`` texts at ``L`` layers, float32 throughout.

    What `record_shards` wrote is read layer by layer when it is asked for: `states` and `of_heads`
    hold one layer in memory, an attribute such as ``trace.k`` all of them.

    Attributes:
        model: what was recorded.
        prompt: placed around every text.
        texts: where they come from.
        points: which hidden states.
        layers: the block of each recorded layer.
        n_tokens: prompted length of each text.
        n_truncated: how many texts were cut at their end.
        tensors: ``hidden`` [n_points, L, d_model], the residual stream after each block (n_points
            = n, or all tokens with points="all"); ``k`` (after RoPE), ``k_pre`` (before RoPE,
            after the model's key norm where it has one) and ``v``, each [n, key_layers,
            n_kv_heads, d_head], of the final real token; of the same token, on request, ``q``
            (after RoPE) and ``z`` (before the output projection) [n, key_layers, n_heads, d_head]
            and ``attn_out`` (after it) [n, key_layers, d_model]; where layers differ in their
            sizes, and in shards, ``k.3`` [n, n_kv_heads, d_head] of layer 3, and so on;
            ``text_index`` [n_points] with points="all"; ``position_zero`` [n, n_layers + 1], how
            many times as long as the median of the other tokens' states that of position 0 is,
            before the first block and after each (0 for a text of one token), where every layer is
            recorded; ``pattern.i`` [L, n_heads, seq_len, seq_len] of text i, on request; with
            ``tokens``, ``k@first`` [rows, key_layers, n_kv_heads, d_head] of these tokens, text by
            text, and so on, and ``text_index@first`` [rows]. Each is an attribute as well:
            ``trace.k``.
        versions: of the libraries that recorded.
        token_hashes: `token_hash` of each text; none in older files.
    """

    what: ClassVar[str] = "a trace"
    again: ClassVar[str] = "record it again"
    format: ClassVar[str] = "kvlens.trace"
    version: ClassVar[int] = 1
    array_fields: ClassVar[tuple[str, ...]] = ("tensors",)
    framework: ClassVar[Literal["np", "pt"]] = "pt"

    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    points: Points
    layers: tuple[int, ...]
    n_tokens: tuple[Count, ...]
    n_truncated: Count
    tensors: Mapping[str, Tensor]
    versions: dict[str, str]
    token_hashes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise InputError for tensors that are not of this model, these layers and texts."""
        self.model.check_layers(self.layers)
        n = self.texts.n
        if not self.layers or n < 1 or len(self.n_tokens) != n or self.n_truncated > n:
            raise InputError(
                f"{len(self.layers)} layers, {n} texts, lengths of {len(self.n_tokens)}, "
                f"{self.n_truncated} truncated: these do not go together"
            )
        if len(self.token_hashes) not in (0, n):
            raise InputError(f"{len(self.token_hashes)} token hashes for {n} texts")
        check_tensors(self)

    @property
    def key_layers(self) -> tuple[int, ...]:
        """The recorded layers that have keys and values."""
        with_keys = set(self.model.layers_with_keys())
        return tuple(layer for layer in self.layers if layer in with_keys)

    @classmethod
    def from_parts(cls, fields: dict[str, Any], arrays: dict[str, Any]) -> Trace:
        """The trace of a header's fields and tensors, all of them finite."""
        trace = super().from_parts(fields, arrays)
        for name, tensor in trace.tensors.items():  # recording looks at its own already
            check_finite(name, tensor)
        return trace

    @classmethod
    def _read(cls, path: str | Path) -> Trace:
        index = index_file(path)
        if index is None:
            return super()._read(path)
        header = TraceIndex.load(index)
        try:
            return cls._of_shards(header, ShardTensors(index.parent, header))
        except InputError as error:
            raise cls.invalid(path, str(error)) from error

    @classmethod
    def _of_shards(cls, index: TraceIndex, tensors: ShardTensors) -> Trace:
        """The trace that a folder of shards holds."""
        return cls(
            model=index.model,
            prompt=index.prompt,
            texts=index.texts,
            points=index.points,
            layers=index.layers,
            n_tokens=tensors.n_tokens,
            n_truncated=index.n_truncated,
            tensors=tensors,
            versions=index.versions,
            token_hashes=tensors.token_hashes,
        )

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The header's fields and the tensors of a file of one piece, into which shards go too."""
        return self.header_fields(), stacked(self.tensors)

    def __getattr__(self, name: str) -> Tensor:
        tensors = self.__dict__.get("tensors", {})
        if name in tensors:
            return tensors[name]
        if name in KINDS and any(each.startswith(f"{name}.") for each in tensors):
            of_kind = {each: tensors[each] for each in tensors if kind_of(each) == name}
            together = stacked(of_kind)
            if name in together:
                return together[name]
            raise AttributeError(
                f"layers differ in the size of their {name}: use trace.states(layer, {name!r})"
            )
        if name in KINDS:
            raise AttributeError(
                f"this trace holds no {name!r}: record it with keep=(..., {name!r})"
            )
        raise AttributeError(name)

    @arguments(layer=whole(), kind=text)
    def states(self, layer: int, kind: str = "hidden") -> Float[np.ndarray, "n_points d"]:
        """The points of one layer.

        Args:
            layer: the block.
            kind: one of `KINDS`, such as ``hidden`` or ``k_pre``, or ``kv`` (k beside v).

        Returns:
            float32; heads beside each other.

        Raises:
            InputError: when the layer or the kind was not recorded.
        """
        if layer not in self.layers:
            raise InputError(
                f"layer {layer} was not recorded; recorded: {self.layers[0]} to {self.layers[-1]}"
            )
        kinds = ("k", "v") if kind == "kv" else (kind,)
        return torch.cat([self._states(layer, name).flatten(1) for name in kinds], dim=1).numpy()

    def _states(self, layer: int, kind: str) -> Shaped[Tensor, "n_points ..."]:
        """The states of one layer, or a refusal."""
        if f"{kind}.{layer}" in self.tensors:
            return self.tensors[f"{kind}.{layer}"]
        if not self.holds(kind):
            held = ", ".join(dict.fromkeys(map(kind_of, self.tensors)))
            raise InputError(f"`kind`: this trace holds no {kind!r} states; it holds {held}")
        layers = self.layers_of(kind)
        if layer not in layers:
            raise InputError(f"layer {layer} of {self.model.name} has no keys and values")
        return self.tensors[kind][:, layers.index(layer)]

    def text_of(self, kind: str) -> Int[np.ndarray, " rows"]:
        """Which text each row of a kind's states is of; raises InputError where none is known."""
        index = index_of(kind, self.points)
        if not index:
            return np.arange(self.texts.n)
        if index not in self.tensors:
            raise InputError(f"this trace does not know the texts of {kind}")
        return self.tensors[index].numpy()

    def of_heads(self, layer: int, kind: str) -> Float[Tensor, "n_texts heads width"]:
        """A layer's keys (``k``, ``k_pre``) or values (``v``), by head; raises as `states`."""
        return self._states(layer, kind)

    def heads(self, layer: int, kind: str) -> int:
        """How many heads a layer's keys (``k``, ``k_pre``) or values (``v``) have."""
        form = forms_of(self.tensors).get(f"{kind}.{layer}")
        return self._states(layer, kind).shape[1] if form is None else form.shape[1]

    def layers_of(self, kind: str) -> tuple[int, ...]:
        """The recorded layers that have states of a kind."""
        return self.layers if kind == "hidden" else self.key_layers

    def holds(self, kind: str) -> bool:
        """Whether it has states of a kind, in one tensor or one a layer."""
        return any(kind_of(name) == kind for name in self.tensors)

    def _facts(self) -> tuple[str, dict[str, str]]:
        tokens = f"{min(self.n_tokens)} to {max(self.n_tokens)} tokens"
        facts = {
            "texts": f"{self.texts.n}, {self.texts.source}; {tokens} "
            f"with prompt {self.prompt.name}, {self.n_truncated} truncated",
            "layers": f"{phrase(self.layers)} of {self.model.n_layers}; "
            f"hidden states: {self.points}",
        }
        return f"trace: {self.model.name}", facts | tensor_facts(forms_of(self.tensors))

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())
