"""Attention browser: attention patterns as data for the page's script."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import numpy as np

from kvlens.analysis.attention import (
    AttentionPatterns,
    token_label,
)
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

LIMIT, PATTERN_BUDGET = (
    8_000_000,
    5_000_000,
)  # bytes of the page, and of the attention patterns in it


MOST, FEWEST = 64, 16  # a longer text is shown in so many bins of tokens; in fewer it says nothing


def _browser(
    patterns: AttentionPatterns, number: int, layers: LayerSet, budget: int
) -> dict[str, Any]:
    """One text for report.js: lower triangles row by row, uint16 ``65535 sqrt(weight)``, base64."""
    arrays, n, L, H = (
        patterns.arrays,
        len(patterns.tokens),
        len(patterns.layers),
        patterns.model.n_heads,
    )
    shapes = {"before": (L, H, n, n), "after": (L, H, n, 1 + n), "beta": (L, H, n)}
    if any(
        arrays.get(k, np.empty(0)).shape != v or not np.isfinite(arrays[k]).all()
        for k, v in shapes.items()
    ):
        raise InputError(
            f"attention patterns {number} are damaged (shapes or NaN): run `kvlens attend` again"
        )
    cost = L * H * 2 * 4 / 3  # bytes of one weight in every layer and head
    fits = (
        m
        for m in range(min(n, MOST), 0, -1)
        if cost * m * ((2 + (m < n)) * (m + 1) / 2 + 2) <= budget
    )
    if (m := next(fits, 0)) < min(n, FEWEST):
        raise InputError(
            f"attention patterns of {L} layers and {H} heads on so many texts do not fit into 8 MB: remove some "
            "attention/patterns files, or re-route fewer layers"
        )
    edges = np.linspace(0, n, m + 1).round().astype(int)
    starts, spans = edges[:-1], list(pairwise(edges))

    def over_queries(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=2) / np.diff(edges)[:, None]

    before, beta = arrays["before"], arrays["beta"][..., None]
    squares = {"before": before, "after": arrays["after"][..., 1:]}
    squares |= {"local": (1 - beta) * before} if m < n else {}  # else report.js computes it
    squares = {k: np.add.reduceat(over_queries(v), starts, axis=3) for k, v in squares.items()}
    columns = {
        "beta": over_queries(beta)[..., 0],
        "prefix": over_queries(arrays["after"][..., :1])[..., 0],
    }
    low, high = patterns.text_span
    own, differs = "".join(patterns.tokens[low:high]), ""
    if patterns.layers != layers.layers:
        differs = f"Measured with {phrase(patterns.layers)}, not with the layer set's. "
    note = (
        f"{n} tokens in {m} bins: weights on a bin's keys summed, mean over a bin's queries."
        if m < n
        else ""
    )
    tokens = ["".join(patterns.tokens[a:b]) for a, b in spans]
    return {
        "name": f"{number}: {own[:60]}{'…' if len(own) > 60 else ''} ({n} tokens)",
        "layers": patterns.layers,
        "heads": H,
        "tokens": [token if len(token) <= 200 else f"{token[:199]}…" for token in tokens],
        "labels": [
            token_label(t) if m == n else f"{a}-{b - 1}"
            for t, (a, b) in zip(tokens, spans, strict=True)
        ],
        "places": [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in spans],
        "own": [bool(a < high and b > low) for a, b in spans],
        "note": differs + note,
        **{k: _pack(v[:, :, *np.tril_indices(m)]) for k, v in squares.items()},
        **{k: _pack(v) for k, v in columns.items()},
    }


def _pack(weights: np.ndarray) -> str:
    whole = np.sqrt(np.clip(weights, 0, 1, dtype=np.float64)) * 65535
    return base64.b64encode(whole.round().astype("<u2").tobytes()).decode()
