"""Attention browser: attention patterns, packed for attention_browser.js.

The script is one ES module, which the page inlines and a notebook widget loads. This file knows
how weights are packed; the script knows how they are drawn. Why a script of our own and not
plotly's menus: docs/decisions/attention-browser.md.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from kvlens.analysis.attention import AttentionPatterns
from kvlens.analysis.token_labels import token_label
from kvlens.layers.layer_set import LayerSet
from kvlens.reporting.bins import Bins, fitting_bins
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

PATTERN_BUDGET = 5_000_000  # bytes of all texts in a page of `page.PAGE_LIMIT`
FEWEST_BINS = 16  # a text in fewer bins of tokens says nothing
LONGEST_NAME = 60
LONGEST_TOKEN = 200

SCRIPT = files("kvlens.reporting").joinpath("attention_browser.js")
# The page's call of the module that stands before it; a widget calls its default export.
BOOTSTRAP = """
attentionBrowser(
  document.getElementById("attention-browser"),
  JSON.parse(document.getElementById("data").textContent),
);
"""


@dataclass(frozen=True)
class BrowserText:
    """Attention on one text of n bins of tokens, as the script reads it.

    A bin is one token, unless the text is too long. Weights are square roots in 16 bits,
    ``65535 sqrt(weight)``, little-endian, base64: good to 0.00002. A query bin's weight is the mean
    over its tokens, a key bin's the sum. Squares ``[layers, heads, n (n + 1) / 2]`` hold the lower
    triangle row by row, columns are ``[layers, heads, n]``.

    Attributes:
        name: in the list of texts.
        layers: the re-routed blocks.
        heads: how many query heads a layer has.
        tokens: the bins' words.
        labels: the bins on the axes.
        places: the bins' positions, "7" or "7-9".
        own: whether a bin holds tokens of the text itself, not of the prompt alone.
        note: what the reader has to know about these patterns; may be empty.
        before: the plain model's weights; a square.
        after: re-routed with the layers below (propagated), but for the prefix; a square.
        local: each layer's own prefix on unchanged inputs; a square. None where a bin is a token:
            then it is ``(1 - beta) * before``.
        beta: the prefix's weight, local; a column.
        prefix: the prefix's weight, propagated; a column.
    """

    name: str
    layers: tuple[int, ...]
    heads: int
    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    places: tuple[str, ...]
    own: tuple[bool, ...]
    note: str
    before: str
    after: str
    local: str | None
    beta: str
    prefix: str


def browser_data(
    patterns: Sequence[AttentionPatterns],
    layers: LayerSet | None = None,
    budget: int = PATTERN_BUDGET,
) -> dict[str, Any]:
    """What the script draws, as JSON holds it.

    Args:
        patterns: of one text each.
        layers: a run's layer set, if there is one; patterns of other layers say so.
        budget: how many bytes all texts may take together.

    Returns:
        ``texts``, each a `BrowserText`, and ``colours``, the colour map's steps from 0 to 1.

    Raises:
        InputError: when patterns do not fit into the budget.
    """
    share = budget // max(len(patterns), 1)
    texts = [packed_text(each, i, layers, share) for i, each in enumerate(patterns, 1)]
    return {"texts": [asdict(text) for text in texts], "colours": _colours()}


def page_script() -> str:
    """The module and the page's call of it; in a page that has data, and an element for it."""
    return SCRIPT.read_text(encoding="utf-8") + BOOTSTRAP


def _colours(steps: int = 32) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from kvlens.plots.style import COLOUR_MAP

    return [to_hex(colormaps[COLOUR_MAP](share)) for share in np.linspace(0, 1, steps)]


def packed_text(
    patterns: AttentionPatterns, number: int, layers: LayerSet | None, budget: int
) -> BrowserText:
    """One text, in as many bins of tokens as fit.

    Args:
        patterns: of the text.
        number: which of the run's texts it is, from 1.
        layers: a run's layer set, if there is one; patterns of other layers say so.
        budget: how many bytes the weights may take.

    Raises:
        InputError: when fewer than `FEWEST_BINS` bins would fit.
    """
    bins = _bins(patterns, budget)
    return BrowserText(
        name=_name(patterns, number),
        layers=patterns.layers,
        heads=patterns.arrays["beta"].shape[1],
        **_words(patterns, bins),
        note=_note(patterns, layers, bins),
        **_packed_weights(patterns.arrays, bins),
    )


def _bins(patterns: AttentionPatterns, budget: int) -> Bins:
    n_tokens = len(patterns.tokens)
    n_layers = len(patterns.layers)
    n_heads = patterns.arrays["beta"].shape[1]
    n_bins = fitting_bins(n_tokens, n_layers * n_heads, budget)
    if n_bins < min(n_tokens, FEWEST_BINS):
        raise InputError(
            f"attention patterns of {n_layers} layers and {n_heads} heads on so many texts are too "
            "large to be shown: take fewer texts (of a run: attention/patterns files), or re-route "
            "fewer layers"
        )
    return Bins.of(n_tokens, n_bins)


def _name(patterns: AttentionPatterns, number: int) -> str:
    start, end = patterns.text_span
    text = _cut("".join(patterns.tokens[start:end]), LONGEST_NAME + 1)
    return f"{number}: {text} ({len(patterns.tokens)} tokens)"


def _cut(text: str, longest: int) -> str:
    """A text of at most so many characters; a cut one ends in "…"."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _words(patterns: AttentionPatterns, bins: Bins) -> dict[str, Any]:
    """The fields of `BrowserText` that name the bins."""
    start, end = patterns.text_span
    words = ["".join(patterns.tokens[first:after]) for first, after in bins.spans]
    places = tuple(_place(first, after - 1) for first, after in bins.spans)
    return {
        "tokens": tuple(_cut(word, LONGEST_TOKEN) for word in words),
        "labels": tuple(map(token_label, words)) if bins.single else places,
        "places": places,
        "own": tuple(first < end and after > start for first, after in bins.spans),
    }


def _place(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _note(patterns: AttentionPatterns, layers: LayerSet | None, bins: Bins) -> str:
    notes = []
    if layers is not None and patterns.layers != layers.layers:
        notes.append(f"Measured with {phrase(patterns.layers)}, not with the layer set's.")
    if not bins.single:
        notes.append(
            f"{len(patterns.tokens)} tokens in {len(bins.spans)} bins: "
            "weights on a bin's keys summed, mean over a bin's queries."
        )
    return " ".join(notes)


def _packed_weights(arrays: dict[str, np.ndarray], bins: Bins) -> dict[str, Any]:
    """The fields of `BrowserText` that hold weights."""
    before = arrays["before"]
    beta = arrays["beta"][..., None]
    after = arrays["after"]
    local = None if bins.single else _pack(bins.square((1 - beta) * before))
    return {
        "before": _pack(bins.square(before)),
        "after": _pack(bins.square(after[..., 1:])),
        "local": local,
        "beta": _pack(bins.over_queries(beta)),
        "prefix": _pack(bins.over_queries(after[..., :1])),
    }


def _pack(weights: np.ndarray) -> str:
    roots = np.sqrt(np.clip(weights, 0, 1, dtype=np.float64))
    whole = (roots * 65535).round().astype("<u2")
    return base64.b64encode(whole.tobytes()).decode()
