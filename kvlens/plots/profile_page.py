"""The ID profile by plotly: the picture of `kvlens.plots.profile`, which answers the mouse."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension.profile import IDEstimate
from kvlens.plots.profile_marks import SINK, TAKEN, Strip
from kvlens.plots.profile_picture import (
    DIMENSION,
    Curve,
    LayerSets,
    ProfilePicture,
    Profiles,
)
from kvlens.plots.style import SHADE, SHADE_ALPHA, UNABLE, UNABLE_ALPHA
from kvlens.plots.words import SINK_BLOCK, UNABLE_LAYERS, wrapped

if TYPE_CHECKING:
    from plotly.graph_objects import Bar, Figure, Scatter

CAPTION_LETTERS = 120
LINE_HEIGHT = 18  # pixels of a line of the caption
STRIP_SHARE = 0.1  # of the height, below the curves


def profile_html(
    profiles: Profiles, layer_sets: LayerSets = None, relative_depth: bool | None = None
) -> Figure:
    """`kvlens.plots.plot_profile`, interactive.

    Hovering tells layer, ID with its standard error, n, dropped, warnings.
    ``write_html(path, include_plotlyjs=True)`` makes a page that needs no network.

    Args:
        profiles: as of `plot_profile`.
        layer_sets: as of `plot_profile`.
        relative_depth: as of `plot_profile`.

    Raises:
        InputError: as `plot_profile`.
    """
    from plotly.graph_objects import Figure

    picture = ProfilePicture.of(profiles, layer_sets, relative_depth)
    figure = Figure()
    for i, curve in enumerate(picture.curves):
        group = str(i)
        figure.add_trace(_band(curve, group))
        figure.add_trace(_line(curve, group, picture.several))
    for left, right in picture.spans:
        _shade(figure, left, right, SHADE, SHADE_ALPHA)
    for left, right in picture.unable:
        _shade(figure, left, right, UNABLE, UNABLE_ALPHA)
    if picture.chosen:
        figure.add_trace(_chosen_key(picture))
    if picture.sink is not None:
        figure.add_trace(_sink_line(picture.sink, picture.top))
    if picture.unable:
        figure.add_trace(_square_key(UNABLE_LAYERS, UNABLE, 2 * UNABLE_ALPHA))
    if picture.strip:
        figure.add_trace(_strip_bars(picture.strip))
    _lay_out(figure, picture)
    return figure


def _band(curve: Curve, group: str) -> Scatter:
    """The band as a closed outline; group: what the legend switches on and off together."""
    from plotly.graph_objects import Scatter

    trace = Scatter(fill="toself", mode="lines")
    trace.x = np.concatenate([curve.x, curve.x[::-1]])
    trace.y = np.concatenate([curve.high, curve.low[::-1]])
    trace.fillcolor = curve.look.colour
    trace.opacity = 0.18
    trace.line.width = 0
    trace.hoverinfo = "skip"
    trace.showlegend = False
    trace.legendgroup = group
    return trace


def _line(curve: Curve, group: str, outlined: bool) -> Scatter:
    """Line and marks, hollow where in doubt; outlined: whether chosen layers have a black edge."""
    from plotly.graph_objects import Scatter

    colour = curve.look.colour
    trace = Scatter(x=curve.x, y=curve.y, mode="lines+markers")
    trace.name = escape(curve.label)
    trace.legendgroup = group
    trace.line.color = colour
    trace.line.dash = curve.look.dash[1]
    trace.line.width = 2
    trace.marker.symbol = curve.look.marker[1]
    trace.marker.color = np.where(curve.in_doubt, "white", colour).tolist()
    trace.marker.opacity = 1
    trace.marker.line.width = 2
    large = curve.at_chosen & outlined
    trace.marker.size = np.where(large, 12, 7).tolist()
    trace.marker.line.color = np.where(large, "black", colour).tolist()
    trace.text = [_hover(curve, estimate) for estimate in curve.estimates]
    trace.hovertemplate = "%{text}<extra></extra>"
    return trace


def _hover(curve: Curve, estimate: IDEstimate) -> str:
    """What is told of a point under the mouse, as HTML."""
    chosen = " (chosen)" if estimate.layer in curve.chosen else ""
    lines = [
        f"<b>{escape(curve.label)}</b>, layer {estimate.layer}{chosen}",
        f"ID {estimate.value:.2f} ± {estimate.stderr:.2f} (standard error)",
        f"n = {estimate.n:,} points, {estimate.dropped:,} duplicates dropped",
    ]
    lines += [f"warning: {escape(text)}" for text in estimate.warnings]
    return "<br>".join(lines)


def _shade(figure: Figure, left: float, right: float, colour: str, alpha: float) -> None:
    """The colour of some layers behind the curves."""
    look = {"fillcolor": colour, "opacity": alpha, "line_width": 0, "layer": "below"}
    figure.add_vrect(x0=left, x1=right, **look)


def _chosen_key(picture: ProfilePicture) -> Scatter:
    """An empty trace, which stands for the chosen layers in the legend."""
    from plotly.graph_objects import Scatter

    if not picture.several:
        return _square_key(picture.chosen, SHADE, 0.6)
    trace = Scatter(x=[None], y=[None], mode="markers", name=picture.chosen)
    trace.marker.size = 12
    trace.marker.color = "#bbb"
    trace.marker.line.width = 2
    trace.marker.line.color = "black"
    return trace


def _square_key(words: str, colour: str, alpha: float) -> Scatter:
    """An empty trace, which stands for shaded layers in the legend."""
    from plotly.graph_objects import Scatter

    trace = Scatter(x=[None], y=[None], mode="markers", name=words)
    trace.marker.symbol = "square"
    trace.marker.size = 14
    trace.marker.color = colour
    trace.marker.opacity = alpha
    return trace


def _sink_line(x: float, top: float) -> Scatter:
    """A dotted line at b*, with its entry in the legend."""
    from plotly.graph_objects import Scatter

    trace = Scatter(x=[x, x], y=[0, top], mode="lines", name=SINK_BLOCK)
    trace.line.color = SINK
    trace.line.dash = "dot"
    trace.line.width = 1
    trace.hoverinfo = "skip"
    return trace


def _strip_bars(strip: Strip) -> Bar:
    """The strip below the curves, on an axis of its own."""
    from plotly.graph_objects import Bar

    trace = Bar(x=strip.x, y=strip.shares, name=strip.label, yaxis="y2")
    trace.width = 0.8 * strip.width
    trace.marker.color = TAKEN
    shares = zip(strip.layers, strip.shares, strict=True)
    trace.text = [f"layer {layer}: in {100 * share:.0f} % of the draws" for layer, share in shares]
    trace.textposition = "none"
    trace.hovertemplate = "%{text}<extra></extra>"
    return trace


def _lay_out(figure: Figure, picture: ProfilePicture) -> None:
    """Axes, legend above, caption below."""
    lines = wrapped(picture.caption, CAPTION_LETTERS)
    _caption_below(figure, lines)
    layout: Any = figure.layout
    layout.template = "simple_white"
    layout.height = 520
    layout.margin = {"t": 60, "r": 20, "b": 70 + LINE_HEIGHT * len(lines)}
    layout.legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    layout.modebar.remove = ["sendChartToCloud"]
    layout.xaxis.title = picture.x_label
    layout.xaxis.range = picture.x_range
    layout.yaxis.title = DIMENSION
    layout.yaxis.range = [0, picture.top]
    layout.yaxis.showgrid = True
    if picture.strip:
        layout.yaxis.domain = [STRIP_SHARE, 1]
        layout.yaxis2 = {"domain": [0, 0.7 * STRIP_SHARE], "range": [0, 1], "visible": False}
        layout.xaxis.anchor = "y2"
    if not picture.relative:
        layout.xaxis.tick0 = 0
        layout.xaxis.dtick = picture.label_step(30)


def _caption_below(figure: Figure, lines: list[str]) -> None:
    words = "<br>".join(escape(line) for line in lines)
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -58, "yanchor": "top"}
    figure.add_annotation(text=words, align="left", showarrow=False, font_size=12, **place)
