"""Figure of what each part of a route does to embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvlens.plots.effects import panel_heights, plot_effects
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, source
from kvlens.studies.effects import Effect, Effects


def effects(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """What the embedding loses when a part of the re-routing is left out. Above: single query heads
    by re-routed layer; left: 1 - cosine of a text's embeddings with and without the head's prefix,
    mean over texts; right: that mean over its standard deviation (above 1: most texts move alike).
    Grey: a head that the model does not have there. Below: whole layers, and the prefix that some
    tokens see; squares, triangles and diamonds: the text's own value, or in the last rows its key,
    or both, replaced by zeros, by the mean of calibration texts, by another text's; left: mean and
    standard deviation over texts, bars cut at 0; right: what the part adds to Spearman's
    correlation x 100, with its paired bootstrap 95 % interval.
    """
    results = load_all(data, "effects")
    heights = [panel_heights(result) for result in results]
    above, below = (max(column) for column in zip(*heights, strict=True))
    options: dict[str, Any] = {"rows": 2, "height_ratios": (above, below)}
    rows = layout.model_rows(results, 2, above + below + 0.5, **options)
    numbers = []
    sources = []
    for axes, result in zip(rows, results, strict=True):
        n_panels = 4 if result.n_pairs else 3
        for ax in axes[n_panels:]:
            ax.remove()
        plot_effects(result, axes[:n_panels])
        numbers.append(_strongest_in_words(result))
        sources.append(source(result, _measured(result)))
    return Drawn(root_figure(rows[0]), " ".join(numbers), sources)


def _strongest_in_words(result: Effects) -> str:
    """What the whole route does, and the head that does most of it."""
    (route,) = result.of("route")
    head = max(result.of("head"), key=lambda each: each.moved)
    words = f"{result.model.name}: without re-routing embeddings move by {_moved(route)}"
    gain = f", Spearman by {route.score.text('.1f')}" if route.score else ""
    return f"{words}{gain}; of single heads most without {head.words}: {_moved(head)}."


def _moved(effect: Effect) -> str:
    return f"{effect.moved:.2g} ± {effect.spread:.2g}"


def _measured(result: Effects) -> str:
    """Pairs or texts, and how they were embedded."""
    n = f"n = {result.n_pairs} pairs" if result.n_pairs else f"n = {result.texts.n} texts"
    return f"{n}, prompt {result.prompt.name}, {result.pooling} pooling"
