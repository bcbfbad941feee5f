"""Interactive pictures of attention."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

    from kvlens.analysis.attention import AttentionPatterns, AttentionShift

    Profiles = IDProfile | Sequence[IDProfile]
    LayerSets = LayerSet | Sequence[LayerSet | None] | None


def beta_html(shift: AttentionShift, kind: str = "local") -> PlotlyFigure:
    """`kvlens.attention_plots.plot_beta` (mean over heads), interactive: hovering tells layer, position, beta, its
    number of tokens, and the head that gives the prefix most."""
    from plotly import graph_objects as go

    heads = shift.arrays[f"beta.{kind}.mean"]
    beta, most, n = heads.mean(1), heads.argmax(1), shift.arrays[f"beta.{kind}.n"]
    ends = np.linspace(0, 100, shift.bins + 1)
    told = np.empty(beta.shape, object)
    for i, j in np.ndindex(beta.shape):
        where = (
            f"layer {shift.layers[i]}, {ends[j]:.0f}-{ends[j + 1]:.0f} % of the {shift.span} tokens"
        )
        told[i, j] = (
            f"{where}<br>β {beta[i, j]:.3f} (n = {n[j]:,} tokens)<br>most in head {most[i, j]}"
        )
        told[i, j] += f": {heads[i, most[i, j], j]:.3f}"
    bar = {"title": "β", "outlinewidth": 0}
    rows = [str(layer) for layer in shift.layers]
    image = go.Heatmap(
        z=beta,
        x=(ends[1:] + ends[:-1]) / 2,
        y=rows,
        text=told,
        colorscale="Cividis",
        zmin=0,
        colorbar=bar,
    )
    figure = go.Figure(image.update(hovertemplate="%{text}<extra></extra>"))
    figure.update_yaxes(title="re-routed layer", autorange="reversed", type="category")
    figure.update_xaxes(title=f"relative position, % of the {shift.span} tokens", range=(0, 100))
    title = f"{escape(shift.model.name)}: the prefix's weight β ({kind}), {shift.texts.n} texts"
    return figure.update_layout(
        template="simple_white", title=title, modebar_remove=["sendChartToCloud"]
    )


def patterns_html(patterns: AttentionPatterns, layer: int, head: int | None = None) -> PlotlyFigure:
    """Attention of one layer before and after (propagated) on one text, interactive: hovering tells query, key
    and weight. The prefix is the first key after; head None: mean over heads. InputError for what is not there."""
    from plotly.subplots import make_subplots

    if layer not in patterns.layers or not (head is None or 0 <= head < patterns.model.n_heads):
        raise InputError(
            f"no pattern of layer {layer}, head {head}; layers {list(patterns.layers)}"
        )
    figure, names = (
        make_subplots(1, 2, subplot_titles=("before", "after")),
        [escape(t, False) for t in patterns.tokens],
    )
    for column, kind in enumerate(("before", "after")):
        weights = patterns.arrays[kind][patterns.layers.index(layer)]
        weights = weights.mean(0) if head is None else weights[head]
        keys, order = ["prefix"] * column + names, {"tickvals": list(range(len(names) + column))}
        seen = np.tri(len(names), len(keys), column, dtype=bool)
        told = [[f"{a} → {b}<br>{w:.3f}" for b, w in zip(keys, row, strict=True)]
                for a, row in zip(names, weights.tolist(), strict=True)]  # fmt: skip
        looks: dict[str, Any] = {"colorscale": "Cividis", "zmin": 0, "zmax": 1, "showscale": False}
        shown = np.where(
            seen, np.sqrt(weights), np.nan
        )  # square-root colours: else the sink alone would show
        figure.add_heatmap(
            z=shown,
            text=told,
            hovertemplate="%{text}<extra></extra>",
            row=1,
            col=column + 1,
            **looks,
        )
        figure.update_xaxes(
            ticktext=keys, tickangle=-90, title="key", row=1, col=column + 1, **order
        )
        figure.update_yaxes(
            ticktext=names,
            tickvals=list(range(len(names))),
            autorange="reversed",
            row=1,
            col=column + 1,
        )
    which = "mean over heads" if head is None else f"head {head}"
    title = f"{escape(patterns.model.name)}, layer {layer}, {which} (square-root colours)"
    return figure.update_layout(
        template="simple_white", title=title, height=520, modebar_remove=["sendChartToCloud"]
    )
