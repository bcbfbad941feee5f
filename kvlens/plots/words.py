"""What pictures call things (kinds of states, effects, metrics, windows), and how lines are cut."""

from __future__ import annotations

import textwrap

NBSP = "\u00a0"  # keeps a number beside its unit

# Estimators, kinds of states and points of a profile.
WORDS = {
    "twonn": "TwoNN",
    "mle": "MLE",
    "corrint": "CorrInt",
    "danco": "DANCo",
    "ess": "ESS",
    "fishers": "FisherS",
    "gride": "GRIDE",
    "knn": "KNN",
    "lpca": "lPCA",
    "mada": "MADA",
    "mind_ml": "MiND_ML",
    "mom": "MOM",
    "ph": "PH",
    "tle": "TLE",
    "hidden": "hidden states after each block",
    "k": "keys",
    "k_pre": "keys before RoPE",
    "v": "values",
    "kv": "keys and values",
    "q": "queries",
    "z": "heads' outputs",
    "attn_out": "attention outputs",
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
MOVED = "1 − cosine"
UNABLE_LAYERS = "cannot be re-routed"
SINK_BLOCK = "b*: writes the massive activation"
NO_POST = "no post-processing"

POINTS_A_LETTER = 4.2  # how wide a letter of a caption or legend is, on average


def named(word: str) -> str:
    """The name of an estimator, a kind of states or of points; unknown ones name themselves."""
    return WORDS.get(word, word)


def heads_phrase(n_heads: int, head: int | None) -> str:
    """Which attention heads are shown: all of them by their mean, unless it is one."""
    return f"mean over {n_heads} heads" if head is None else f"head {head}"


def letters(inches: float) -> int:
    """How many letters of a caption or legend fit on a line of `inches`."""
    return int(72 * inches / POINTS_A_LETTER)


def wrapped(text: str, width: int, at_hyphens: bool = False) -> list[str]:
    """Text in lines of at most `width` letters.

    Args:
        text: of a caption, where names with hyphens stay whole; or a name itself.
        width: in letters.
        at_hyphens: whether a line may end at a hyphen.
    """
    return textwrap.wrap(text, width, break_on_hyphens=at_hyphens)


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
