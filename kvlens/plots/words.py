"""What pictures call things: kinds of states, effects, metrics, windows; and how long lines are cut."""

from __future__ import annotations

import textwrap

NBSP = "\u00a0"  # keeps a number beside its unit

# Estimators, kinds of states and points of a profile.
WORDS = {
    "twonn": "TwoNN",
    "mle": "MLE",
    "hidden": "hidden states after each block",
    "k": "keys",
    "k_pre": "keys before RoPE",
    "v": "values",
    "kv": "keys and values",
    "last": "final token",
    "mean": "mean over tokens",
    "all": "all tokens",
}
# Kinds of states in a legend, where room is short.
STATES = {
    "k_pre": "K before RoPE",
    "k": "K after RoPE",
    "v": "V",
    "hidden": "hidden state",
}
EFFECTS = {
    "local": "local: own layer's prefix, inputs unchanged",
    "propagated": "propagated: layers below re-routed too",
}
SPANS = {
    "prompted": "the prompted text",
    "text": "the text's own tokens",
}
LAYER = "layer (0-based block index)"
REROUTED_LAYER = "re-routed layer"
PREFIX_WEIGHT = "prefix's weight β"
NO_POST = "no post-processing"

POINTS_A_LETTER = 4.2  # how wide a letter of a caption or legend is, on average


def letters(inches: float) -> int:
    """How many letters of a caption or legend fit on a line of `inches`."""
    return int(72 * inches / POINTS_A_LETTER)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a caption, at most `width` letters each; words with hyphens stay whole."""
    return textwrap.wrap(text, width, break_on_hyphens=False)


def shortened(name: str, limit: int = 44) -> str:
    """A long name without its middle: a model's name says most at its end."""
    if len(name) <= limit:
        return name
    return f"{name[:14]}…{name[15 - limit :]}"


def counted(n: int, what: str) -> str:
    """How many of `what` stand behind a picture: (1000, "texts") -> "n = 1,000 texts"."""
    return f"n{NBSP}={NBSP}{n:,} {what}"


def metric_name(metric: str) -> str:
    """The name of one of mteb's metrics on an axis: "cosine_spearman" -> "Spearman × 100"."""
    name = metric.replace("cosine_spearman", "Spearman").replace("ndcg_at_", "NDCG@")
    return f"{name.replace('_', ' ')} × 100"


def window_name(width: int, bias: float) -> str:
    """A kind of window in a legend: (4, 1.0) -> "4 layers, bias 1"."""
    unit = "layer" if width == 1 else "layers"
    return f"{width} {unit}, bias {bias:g}"
