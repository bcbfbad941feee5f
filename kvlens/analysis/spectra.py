"""Spectra: how many directions states spread over, by singular values of their centred rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from kvlens.analysis.geometry import centred, effective_rank
from kvlens.store.artifact import Record
from kvlens.store.bounds import Count, Size

SHARES = (0.90, 0.95, 0.99)
ROUNDING = 1e-12  # a share that is reached but for rounding is reached

# Spread below this share of the length is rounding: SmolLM2-135M has 0 in k_pre and v of layer 0,
# else over 0.025.
CONSTANT = 1e-5


class Spectrum(Record):
    """Centred states of one KV head, or of all heads side by side.

    Attributes:
        kind: k, k_pre or v.
        layer: block index.
        head: the KV head; None: all.
        n: texts.
        d: dimensions; at most min(d, n - 1) directions differ from 0: compare at equal n.
        effective_rank: see `kvlens.analysis.geometry.effective_rank`.
        directions: how many hold 90, 95 and 99 % of the energy (squared singular values: the
            variance).
        energy: the share of the first 1, 2, ..., until 99 % (empty for one head).
    """

    kind: str
    layer: Count
    head: Count | None
    n: Size
    d: Size
    effective_rank: float
    directions: tuple[int, int, int]
    energy: tuple[float, ...]


def state_spectra(
    kind: str, layer: int, states: Float[np.ndarray, "n d"], n_kv_heads: int
) -> Iterator[Spectrum]:
    """The spectrum of all heads side by side, then of each that is not constant.

    Args:
        kind: of the states, for the record.
        layer: whose they are.
        states: the heads side by side.
        n_kv_heads: how many.

    Yields:
        The spectra.
    """
    yield _spectrum(kind, layer, None, states)
    for head, of_head in enumerate(np.split(states, n_kv_heads, axis=1)):
        if not is_constant(of_head):
            yield _spectrum(kind, layer, head, of_head)


def _spectrum(kind: str, layer: int, head: int | None, X: Float[np.ndarray, "n d"]) -> Spectrum:
    energy = np.cumsum(np.linalg.svd(centred(X), compute_uv=False) ** 2)  # of 1 in all
    first, second, third = (int((energy < share - ROUNDING).sum()) + 1 for share in SHARES)
    return Spectrum(
        kind=kind,
        layer=layer,
        head=head,
        n=X.shape[0],
        d=X.shape[1],
        effective_rank=effective_rank(X),
        directions=(first, second, third),
        energy=tuple(energy[:third].round(6).tolist()) if head is None else (),
    )


def is_constant(X: Float[np.ndarray, "n d"]) -> bool:
    """Whether all rows are equal, but for rounding."""
    return bool(np.linalg.norm(X - X.mean(axis=0)) <= CONSTANT * np.linalg.norm(X))
