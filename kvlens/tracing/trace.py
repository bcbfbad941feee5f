"""Trace: what the final token holds at every layer; one safetensors file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from kvlens.models.info import ModelInfo
from kvlens.store.arguments import shown
from kvlens.store.arrays import check_array, check_finite
from kvlens.store.artifact import TensorArtifact
from kvlens.store.bounds import Count
from kvlens.store.checking import arguments, text, whole
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, facts_text
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

Points = Literal["last", "mean", "all"]
"""Which hidden states of a text are recorded."""

KEEP = ("hidden", "k", "k_pre", "v")
"""The kinds of states."""

POSITION_ZERO = "position_zero"
"""Name of the lengths of position 0's states, see `kvlens.tracing.position_zero`."""

AXES = {
    "hidden": "n_points n_recorded d_model",
    **dict.fromkeys(("k", "k_pre"), "n_texts n_with_keys n_kv_heads d_head"),
    "v": "n_texts n_with_keys n_kv_heads width",
    POSITION_ZERO: "n_texts n_boundaries",
}
"""Kind -> its axes."""

OF_LAYER = re.compile(r"(k|k_pre|v)\.(0|[1-9][0-9]{0,8})")
"""Name of one layer's keys or values, where the layers' differ in size."""

PATTERN = re.compile(r"pattern\.(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Trace(TensorArtifact):
    """Recorded states of ``n`` texts at ``L`` layers, float32 throughout.

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
            n_kv_heads, d_head], of the final real token; where layers differ in their sizes,
            ``k.3`` [n, n_kv_heads, d_head] of layer 3, and so on; ``text_index`` [n_points] with
            points="all"; ``position_zero`` [n, n_layers + 1], how many times as long as the median
            of the other tokens' states that of position 0 is, before the first block and after
            each (0 for a text of one token), where every layer is recorded; ``pattern.i``
            [L, n_heads, seq_len, seq_len] of text i, on request. Each is an attribute as well:
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
    tensors: dict[str, Tensor]
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
        is_indexed = self.points == "all" and "hidden" in self.tensors
        if is_indexed != ("text_index" in self.tensors):
            raise InputError('text_index goes with hidden states of points="all", and only so')
        sizes = self._sizes()
        for name, tensor in self.tensors.items():
            self._check_tensor(name, tensor, sizes)

    @property
    def key_layers(self) -> tuple[int, ...]:
        """The recorded layers that have keys and values."""
        with_keys = set(self.model.layers_with_keys())
        return tuple(layer for layer in self.layers if layer in with_keys)

    def _sizes(self) -> dict[str, int]:
        """Axis -> its size."""
        n = self.texts.n
        return {
            "n_texts": n,
            "n_points": sum(self.n_tokens) if self.points == "all" else n,
            "n_recorded": len(self.layers),
            "n_boundaries": self.model.n_layers + 1,
            "n_with_keys": len(self.key_layers),
            "n_heads": self.model.n_heads,
            "n_kv_heads": self.model.n_kv_heads,
            "d_head": self.model.d_head,
            "d_model": self.model.d_model,
        }

    def _check_tensor(self, name: str, tensor: Tensor, sizes: Mapping[str, int]) -> None:
        pattern = PATTERN.fullmatch(name)
        of_layer = OF_LAYER.fullmatch(name)
        if name in AXES:
            check_array(name, tensor, AXES[name], sizes)
        elif of_layer and int(of_layer[2]) in self.key_layers:
            check_array(name, tensor, "n_texts heads width", sizes)
        elif pattern and int(pattern[1]) < self.texts.n:
            seq_len = self.n_tokens[int(pattern[1])]
            check_array(name, tensor, f"n_recorded n_heads {seq_len} {seq_len}", sizes)
        elif name == "text_index":
            check_array(name, tensor, "n_points", sizes, ("int64",))
            texts = torch.arange(self.texts.n)
            if not torch.equal(tensor, texts.repeat_interleave(torch.tensor(self.n_tokens))):
                raise InputError("text_index does not count the tokens of each text")
        else:
            raise InputError(f"it has an unknown tensor {shown(name)}")

    @classmethod
    def from_parts(cls, fields: dict[str, Any], arrays: dict[str, Any]) -> Trace:
        """The trace of a header's fields and tensors, all of them finite."""
        trace = super().from_parts(fields, arrays)
        for name, tensor in trace.tensors.items():  # recording looks at its own already
            check_finite(name, tensor)
        return trace

    def __getattr__(self, name: str) -> Tensor:
        tensors = self.__dict__.get("tensors", {})
        if name in tensors:
            return tensors[name]
        if name in KEEP and any(each.startswith(f"{name}.") for each in tensors):
            raise AttributeError(
                f"layers differ in the size of their {name}: use trace.states(layer, {name!r})"
            )
        if name in KEEP:
            raise AttributeError(
                f"this trace holds no {name!r}: record it with keep=(..., {name!r})"
            )
        raise AttributeError(name)

    @arguments(layer=whole(), kind=text)
    def states(self, layer: int, kind: str = "hidden") -> Float[np.ndarray, "n_points d"]:
        """The points of one layer.

        Args:
            layer: the block.
            kind: ``hidden``, ``k``, ``k_pre``, ``v``, or ``kv`` (k beside v).

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
            held = ", ".join(dict.fromkeys(_kind_of(name) for name in self.tensors))
            raise InputError(f"`kind`: this trace holds no {kind!r} states; it holds {held}")
        layers = self.layers_of(kind)
        if layer not in layers:
            raise InputError(f"layer {layer} of {self.model.name} has no keys and values")
        return self.tensors[kind][:, layers.index(layer)]

    def of_heads(self, layer: int, kind: str) -> Float[Tensor, "n_texts heads width"]:
        """A layer's keys (``k``, ``k_pre``) or values (``v``), by head; raises as `states`."""
        return self._states(layer, kind)

    def heads(self, layer: int, kind: str) -> int:
        """How many heads a layer's keys (``k``, ``k_pre``) or values (``v``) have."""
        return self._states(layer, kind).shape[1]

    def layers_of(self, kind: str) -> tuple[int, ...]:
        """The recorded layers that have states of a kind."""
        return self.layers if kind == "hidden" else self.key_layers

    def holds(self, kind: str) -> bool:
        """Whether it has states of a kind, in one tensor or one a layer."""
        return any(_kind_of(name) == kind for name in self.tensors)

    def _facts(self) -> tuple[str, dict[str, str]]:
        tokens = f"{min(self.n_tokens)} to {max(self.n_tokens)} tokens"
        facts = {
            "texts": f"{self.texts.n}, {self.texts.source}; {tokens} "
            f"with prompt {self.prompt.name}, {self.n_truncated} truncated",
            "layers": f"{phrase(self.layers)} of {self.model.n_layers}; "
            f"hidden states: {self.points}",
        }
        return f"trace: {self.model.name}", facts | self._tensor_facts()

    def _tensor_facts(self) -> dict[str, str]:
        """Name -> type, shape and size; those of one kind that has a tensor a layer together."""
        facts: dict[str, str] = {}
        for name, tensor in self.tensors.items():
            kind = _kind_of(name)
            if kind == name:
                megabytes = tensor.nbytes / 1e6
                facts[name] = f"{tensor.dtype} {list(tensor.shape)}, {megabytes:.1f} MB"
            else:
                facts[kind] = self._ragged_fact(kind)
        return facts

    def _ragged_fact(self, kind: str) -> str:
        """A kind whose layers differ in size, in words."""
        of_layers = [each for name, each in self.tensors.items() if _kind_of(name) == kind]
        megabytes = sum(tensor.nbytes for tensor in of_layers) / 1e6
        shapes = " or ".join(dict.fromkeys(str(list(tensor.shape)) for tensor in of_layers))
        return f"{of_layers[0].dtype}, a tensor a layer, {shapes}, {megabytes:.1f} MB"

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())


def _kind_of(name: str) -> str:
    """The kind of states of a tensor that may be one layer's: ``k.3`` -> ``k``."""
    kind = OF_LAYER.fullmatch(name)
    return kind[1] if kind else name
