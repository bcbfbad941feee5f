"""Pair parts: why two texts are similar: their cosine as a sum over tokens, blocks and heads.

A pooled vector is a sum of parts p_c (`residual_parts`), so the cosine of two vectors u and v is a
sum, too. Over pairs of tokens: ``u_i . v_j / (|u| |v|)``. Over what was written where:
``(p_c . v + u . q_c) / (2 |u| |v|)``, how far what c wrote into each text points to the other's
whole vector. Parts may be negative; both sums are the cosine itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from kvlens.models.info import ModelInfo
from kvlens.store.arrays import check_array, check_finite, check_names
from kvlens.store.artifact import TensorArtifact
from kvlens.store.bounds import Count
from kvlens.store.errors import InputError
from kvlens.store.facts import printed_html, text_of_lines
from kvlens.store.layer_ranges import phrase

PAIR_AXES = {
    "tokens": "n_first n_second",
    "after": "n_blocks",
    "ends": "2",
    "blocks": "n_blocks",
    "attention": "n_blocks",
    "heads": "n_blocks n_heads",
}
"""Array of `PairParts` -> its axes."""
OF_HEADS = ("attention", "heads")
ROUNDING = 1e-4  # between a sum of parts and the cosine
SHOWN = 3  # blocks that are told


@dataclass(frozen=True)
class PairParts(TensorArtifact):
    """The cosine of two texts, and its parts; T1 and T2 tokens, B blocks up to the readout.

    `arrays`, float64, each a share of the cosine but for ``after``:

    * ``tokens`` ``[T1, T2]``: of each pair of tokens; they add up to the cosine.
    * ``blocks`` ``[B]``: of what each block writes, and ``ends`` ``[2]``: of the embedding and of
      the final norm's bias; together they add up to it, too.
    * ``attention`` ``[B]``: of a block's share, that of its attention; the rest is the MLP's.
    * ``heads`` ``[B, H]``: of that, what each query head writes; the rest is biases. These two are
      missing where the model does not show what its heads write.
    * ``after`` ``[B]``: the cosine as it would be if the model ended after each block.

    Attributes:
        model: that embeds.
        method: its name, see `kvlens.methods`.
        settings: of the method.
        texts: the two.
        tokens: as they read, of each prompted text.
        spans: the text's own tokens ``[start, end)`` inside its prompt.
        cosine: of the two vectors, without post-processing.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a cosine in parts"
    again: ClassVar[str] = "take it apart again"
    format: ClassVar[str] = "kvlens.pair-parts"
    version: ClassVar[int] = 1

    model: ModelInfo
    method: str
    settings: dict[str, Any] = field(repr=False)
    texts: tuple[str, str]
    tokens: tuple[tuple[str, ...], tuple[str, ...]] = field(repr=False)
    spans: tuple[tuple[Count, Count], tuple[Count, Count]] = field(repr=False)
    cosine: float
    versions: dict[str, str] = field(repr=False)
    command: str = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)

    def __post_init__(self) -> None:
        """Raise InputError for arrays that are not of these tokens, and sums that are not it."""
        with_heads = any(name in self.arrays for name in OF_HEADS)
        required = PAIR_AXES if with_heads else PAIR_AXES.keys() - OF_HEADS
        check_names(self.arrays, PAIR_AXES, sorted(required))
        n_blocks = len(self.arrays["after"])
        if not 1 <= n_blocks <= self.model.n_layers:
            raise InputError(f"it is of {n_blocks} blocks, the model has {self.model.n_layers}")
        n_first, n_second = map(len, self.tokens)
        sizes = {"n_first": n_first, "n_second": n_second, "n_blocks": n_blocks}
        sizes["n_heads"] = self.model.n_heads
        for name, array in self.arrays.items():
            check_array(name, array, PAIR_AXES[name], sizes, ("float64",))
            check_finite(name, array)
        self._check_spans()
        self._check_sum("tokens", float(self.arrays["tokens"].sum()))
        self._check_sum("blocks", self.written)

    def _check_spans(self) -> None:
        for (start, end), tokens in zip(self.spans, self.tokens, strict=True):
            n = len(tokens)
            if not start <= end <= n:
                raise InputError(f"the text's tokens {start} to {end} are not in 0 to {n}")

    def _check_sum(self, name: str, total: float) -> None:
        if not abs(total - self.cosine) <= ROUNDING:
            cosine = f"its cosine is {self.cosine:.4f}"
            raise InputError(f"its {name} add up to {total:.4f}, {cosine}")

    @property
    def written(self) -> float:
        """What all that was written adds up to: the cosine."""
        return float(self.arrays["ends"].sum() + self.arrays["blocks"].sum())

    @property
    def rest(self) -> Float[np.ndarray, " n_blocks"] | None:
        """Share of each block without its attention: the MLP's; None without heads."""
        if "attention" not in self.arrays:
            return None
        return self.arrays["blocks"] - self.arrays["attention"]

    @property
    def by_kind(self) -> dict[str, float]:
        """Share of the pairs of tokens of a kind; they add up to the cosine.

        ``text``: both of the text itself; ``prompt``: both of the prompt; ``mixed``: the others.
        """
        first, second = (
            _inside(len(tokens), span) for tokens, span in zip(self.tokens, self.spans, strict=True)
        )
        both = np.logical_and.outer(first, second)
        neither = np.logical_and.outer(~first, ~second)
        shares = self.arrays["tokens"]
        text, prompt = float(shares[both].sum()), float(shares[neither].sum())
        return {"text": text, "prompt": prompt, "mixed": float(shares.sum()) - text - prompt}

    @property
    def by_writer(self) -> dict[str, float]:
        """Share of all that was written by a kind of part; they add up to the cosine."""
        embedding, bias = map(float, self.arrays["ends"])
        blocks = {"blocks": float(self.arrays["blocks"].sum())}
        if self.rest is not None:
            attention = float(self.arrays["attention"].sum())
            blocks = {"attention": attention, "MLPs": float(self.rest.sum())}
        return {"embedding": embedding, **blocks, "norm's bias": bias}

    def __str__(self) -> str:
        shares = self.arrays["blocks"]
        most = np.argsort(-np.abs(shares), kind="stable")[:SHOWN]
        return text_of_lines(
            [
                self.title,
                f"  cosine       {self.cosine:.4f}",
                f"  of tokens    {_listed(self.by_kind)}",
                f"  written by   {_listed(self.by_writer)}",
                f"  most, layer  {_listed({str(layer): shares[layer] for layer in most})}",
            ]
        )

    __repr__ = __str__

    @property
    def rerouted(self) -> tuple[int, ...]:
        """The layers that the method re-routes; none for most methods."""
        return tuple(self.settings.get("layers") or ())

    @property
    def title(self) -> str:
        """Model, method, and what is re-routed."""
        rerouted = f", re-routed in {phrase(self.rerouted)}" if self.rerouted else ""
        return f"{self.model.name}, {self.method}{rerouted}: why two texts are similar"

    def _repr_html_(self) -> str:
        return printed_html(self, "the cosine by pair of tokens, layer and query head")


def _inside(n: int, span: tuple[int, int]) -> Bool[np.ndarray, " n"]:
    places = np.arange(n)
    return (places >= span[0]) & (places < span[1])


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:+.4f}" for name, share in shares.items())
