"""Word tables: what states say in words, as the rows of a page; its template escapes them."""

from __future__ import annotations

from typing import Any

from kvlens.analysis.token_labels import token_label
from kvlens.analysis.word_lens import TopWords, WordLens, WordShare
from kvlens.store.errors import printable

KINDS = ("v", "hidden")
TOKENS = 5  # of a cell
LETTERS = 24  # of a token


def word_tables(lens: WordLens | None) -> list[dict[str, Any]]:
    """A table for each shown text.

    Args:
        lens: of some texts, or None.

    Returns:
        For each text its beginning, and ``rows`` with the name of a layer, or "embedding", and a
        cell for each kind: tokens (label, weight, whether it is an own word), and shares of own
        words over all texts.
    """
    if lens is None:
        return []
    centred = bool(lens.shares_of("hidden", centred=True))
    return [
        {"text": excerpt, "rows": _rows(lens, text, centred)}
        for text, excerpt in enumerate(lens.shown)
    ]


def _rows(lens: WordLens, text: int, centred: bool) -> list[dict[str, Any]]:
    cells = {
        (kind, words.layer): _cell(words, share)
        for kind in (*KINDS, "embedding")
        for words, share in zip(
            lens.words_of(text, kind, centred), lens.shares_of(kind, centred), strict=False
        )
    }
    layers = sorted({layer for _, layer in cells if layer is not None})
    rows = [
        {"name": layer, "cells": [cells.get((kind, layer)) for kind in KINDS]} for layer in layers
    ]
    if ("embedding", None) in cells:
        rows.append({"name": "embedding", "cells": [None, cells["embedding", None]]})
    return rows


def _cell(words: TopWords, share: WordShare) -> dict[str, Any]:
    tokens = zip(words.tokens, words.weights, words.own, strict=True)
    labelled = [(_label(token), weight, own) for token, weight, own in tokens]
    return {"tokens": labelled[:TOKENS], "own": share.own, "other": share.other}


def _label(token: str) -> str:
    return printable(token_label(token, LETTERS))
