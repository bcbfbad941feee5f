"""Trace: what the final token holds at every layer; one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from kvlens.models.info import ModelInfo
from kvlens.store.artifact import TensorArtifact
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, facts_text
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

Points = Literal["last", "mean", "all"]


KEEP = ("hidden", "k", "k_pre", "v")


@dataclass(frozen=True)
class Trace(TensorArtifact):
    """Recorded states; ``n`` texts, ``L`` recorded layers, float32 throughout.

    tensors: ``hidden`` [n_points, L, d_model], the residual stream after each block (n_points = n, or all tokens
    with points="all"); ``k`` (after RoPE), ``k_pre`` (before RoPE, after the model's key norm where it has one) and
    ``v``, each [n, L, n_kv_heads, d_head], of the final real token; ``text_index`` [n_points] with points="all";
    ``pattern.i`` [L, n_heads, seq_len, seq_len] of text i, on request. n_tokens: prompted length of each text.
    """

    what: ClassVar[str] = "a trace"
    again: ClassVar[str] = "record it again"
    format: ClassVar[str] = "kvlens.trace"
    version: ClassVar[int] = 1
    tensor_field: ClassVar[str] = "tensors"
    framework: ClassVar[Literal["np", "pt"]] = "pt"

    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    points: Points
    layers: tuple[int, ...]
    n_tokens: tuple[int, ...]
    n_truncated: int
    tensors: dict[str, torch.Tensor]
    versions: dict[str, str]

    def __getattr__(self, name: str) -> torch.Tensor:
        tensors = self.__dict__.get("tensors", {})
        if name in tensors:
            return tensors[name]
        if name in KEEP:
            raise AttributeError(
                f"this trace holds no {name!r}: record it with keep=(..., {name!r})"
            )
        raise AttributeError(name)

    def states(self, layer: int, kind: str = "hidden") -> np.ndarray:
        """The points of one layer, float32 ``[n_points, d]``; kind: hidden, k, k_pre, v, or kv (k beside v)."""
        if layer not in self.layers:
            raise InputError(
                f"layer {layer} was not recorded; recorded: {self.layers[0]} to {self.layers[-1]}"
            )
        kinds = ("k", "v") if kind == "kv" else (kind,)
        if missing := [name for name in kinds if name not in self.tensors]:
            raise InputError(
                f"this trace holds no {missing[0]!r} states; it holds {', '.join(self.tensors)}"
            )
        at = self.layers.index(layer)
        return torch.cat([self.tensors[name][:, at].flatten(1) for name in kinds], dim=1).numpy()

    def _facts(self) -> tuple[str, dict[str, str]]:
        low, high = min(self.n_tokens), max(self.n_tokens)
        facts = {
            "texts": f"{self.texts.n}, {self.texts.source}; {low} to {high} tokens with prompt {self.prompt.name}, "
            f"{self.n_truncated} truncated",
            "layers": f"{phrase(self.layers)} of {self.model.n_layers}; hidden states: {self.points}",
        }
        facts |= {
            name: f"{t.dtype} {list(t.shape)}, {t.nbytes / 1e6:.1f} MB"
            for name, t in self.tensors.items()
        }
        return f"trace: {self.model.name}", facts

    def __repr__(self) -> str:
        return facts_text(*self._facts())

    def _repr_html_(self) -> str:
        return facts_html(*self._facts())
