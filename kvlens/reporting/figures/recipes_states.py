"""Figures of what states and embedding spaces hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvlens.analysis.method_geometry import PLAIN, Geometry
from kvlens.plots.geometry import plot_geometry, plot_sentences
from kvlens.plots.parts import colour_bar
from kvlens.plots.states import plot_ranks, plot_similarities
from kvlens.reporting.figures.layout import DOUBLE, Layout, keep_first_legend, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, load_results, source, texts_of


def similarity(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Cosine similarity of related and unrelated sentences by method, in one colour scale: a narrow
    cone shows as a bright square. Framed: sentences of one topic. Gap: mean cosine within topics
    less that across them.
    """
    results = load_all(data, "geometry")
    n_methods = max(len(geometry.cosines) for geometry in results)
    rows = layout.model_rows(results, n_methods, 1.7, narrow=3)
    for geometry, axes in zip(results, rows, strict=True):
        plot_sentences(geometry, axes, bar=False)
    _share_colours(rows)
    sources = []
    for geometry in results:
        n = len(geometry.groups)
        sources.append(source(geometry, f"n = {n} sentences"))
    numbers = f"By topic: {' '.join(_numbered_sentences(results))}"
    return Drawn(root_figure(rows[0]), numbers, sources)


def _share_colours(rows: list[list[Any]]) -> None:
    """One colour scale for all squares, which ends at 1; a colour bar in each row."""
    images = [image for axes in rows for ax in axes for image in ax.images]
    lowest = min(image.get_clim()[0] for image in images)
    for image in images:
        image.set_clim(lowest, 1)
    for axes in rows:
        colour_bar(axes[0].images[0], axes, "cosine", pad=0.02, aspect=30)


def _numbered_sentences(results: list[Geometry]) -> list[str]:
    """Every sentence once, with the number of its topic."""
    sentences = {}
    for geometry in results:
        for sentence, group in zip(geometry.sentences, geometry.groups, strict=True):
            sentences[f"({group + 1}) {sentence}"] = True
    return list(sentences)


def geometry(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Isotropy of the embeddings by method (mean cosine of different texts; evenness of the
    variance over directions), and uniformity against alignment of positive pairs (Wang and Isola
    2020), marked as on the left.
    """
    results = load_all(data, "geometry")
    rows = layout.model_rows(results, 3, 2.5)
    numbers = []
    sources = []
    for result, axes in zip(results, rows, strict=True):
        plot_geometry(result, axes)
        numbers.append(_uniformity_in_words(result))
        pairs = f"{result.n_pairs} positive pairs, {result.pairs}"
        sources.append(source(result, f"n = {result.n} {result.data}; {pairs}"))
    text = f"Uniformity and alignment of kv_embedding, {' '.join(numbers)}"
    return Drawn(root_figure(rows[0]), text, sources)


def _uniformity_in_words(geometry: Geometry) -> str:
    """Uniformity and alignment of kv_embedding, with re-routing and without."""
    values = {}
    for row in geometry.methods:
        if row.alignment:
            values[row.label] = f"{row.uniformity:.2f}, {row.alignment:.3f}"
    rerouted = values.get("kv_embedding")
    plain = values.get(PLAIN)
    return f"{geometry.model.name}: {rerouted}, without re-routing {plain}."


def kv_ranks(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """Over how many directions the final token's keys and values spread: effective rank (from the
    entropy of the singular values), and directions that hold 90 % of the variance; all KV heads
    side by side.
    """
    return _lens_figure(data, layout, plot_ranks)


def kv_similarity(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """How much the final token's states of each layer share with the final embedding. Grey: with
    the embeddings of other texts (permuted), mean ± 2 standard deviations over the draws.
    """
    return _lens_figure(data, layout, plot_similarities)


def _lens_figure(data: Path, layout: Layout, plot: Callable[..., Any]) -> Drawn:
    """A row a model, drawn by `plot` on two axes."""
    results = load_results(data, "lens", "geometry")  # both come from one command
    rows = layout.model_rows([lens for lens, _ in results], 2, 2.5)
    sources = []
    for (lens, geometry), axes in zip(results, rows, strict=True):
        plot(lens, axes)
        sources.append(source(lens, texts_of(lens), geometry.command))
    keep_first_legend(rows)
    return Drawn(root_figure(rows[0]), "", sources)
