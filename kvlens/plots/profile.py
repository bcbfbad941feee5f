"""Pictures of results: pure functions, a result -> matplotlib Axes or a plotly Figure. No display needed."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from kvlens.dimension import IDEstimate, IDProfile
from kvlens.files import InputError, atomic_path
from kvlens.layers import LayerSet
from kvlens.records import phrase, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure as PlotlyFigure

    from kvlens.attention import AttentionPatterns, AttentionShift

    Profiles = IDProfile | Sequence[IDProfile]
    LayerSets = LayerSet | Sequence[LayerSet | None] | None

Draw = TypeVar("Draw", bound=Callable[..., Any])
# Okabe and Ito's colours, told apart with every common colour vision; without yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHADE = "#F3C94B"
# matplotlib's name and plotly's; markers and dashes tell curves apart in a grey print.
MARKERS = (("o", "circle"), ("s", "square"), ("^", "triangle-up"), ("D", "diamond"), ("v", "triangle-down"))
DASHES = (("-", "solid"), ("--", "dash"), ("-.", "dashdot"), (":", "dot"))
BAND = 1.96
X_LABELS = {False: "layer (0-based block index)", True: "relative depth (0 first block, 1 last)"}
Y_LABEL = "intrinsic dimension"
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
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a model's name may hold dollar signs
}


@dataclass(frozen=True)
class _Line:
    """One curve: its estimates, where they lie, its looks, and which of its layers were chosen."""

    label: str
    estimates: tuple[IDEstimate, ...]
    x: np.ndarray
    y: np.ndarray
    half_band: np.ndarray
    chosen: tuple[int, ...]
    colour: str
    marker: tuple[str, str]
    dash: tuple[str, str]


@dataclass(frozen=True)
class _Picture:
    """What both kinds of picture show. spans: (from, to) on the x axis, of the chosen layers to be
    shaded."""

    lines: list[_Line]
    several: bool
    relative: bool
    n_layers: int
    x_range: tuple[float, float]
    top: float
    spans: list[tuple[float, float]]
    chosen: str
    caption: str


def _picture(profiles: Profiles, layer_sets: LayerSets, relative: bool | None) -> _Picture:
    shown = [profiles] if isinstance(profiles, IDProfile) else list(profiles)
    sets = [layer_sets] if isinstance(layer_sets, LayerSet) else list(layer_sets or [None] * len(shown))
    if not shown or len(sets) != len(shown):
        raise InputError(f"{len(shown)} profiles and {len(sets)} layer sets: give a profile, and one set for each")
    for profile, chosen in zip(shown, sets, strict=True):
        if chosen is not None and chosen.model != profile.model:
            raise InputError(f"a layer set of {chosen.model.name} does not fit {profile.model.name}")
    several = len(shown) > 1
    relative = several if relative is None else relative
    lines, spans = [], []
    for i, (profile, chosen) in enumerate(zip(shown, sets, strict=True)):
        depth = max(profile.model.n_layers - 1, 1) if relative else 1
        layers = chosen.layers if chosen else ()
        if not several:
            spans = [((first - 0.5) / depth, (last + 0.5) / depth) for first, last in runs(layers)]
        for j, name in enumerate(list(profile.estimates)[: 1 if several else None]):
            line = _Line(
                label=_label(profile, shown) if several else WORDS.get(name, name),
                estimates=profile.estimates[name],
                x=np.array(profile.layers) / depth,
                y=profile.values(name),
                half_band=BAND * profile.stderrs(name),
                chosen=layers,
                colour=COLOURS[(i + j) % len(COLOURS)],
                marker=MARKERS[(i + j) % len(MARKERS)],
                dash=DASHES[(i // len(COLOURS) + j) % len(DASHES)],
            )
            lines.append(line)
    top = 1.06 * max(float((line.y + line.half_band).max()) for line in lines)
    named = "chosen layers" if several else f"chosen: {phrase(lines[0].chosen)}"
    named = named if any(line.chosen for line in lines) else ""
    n_layers = max(profile.model.n_layers for profile in shown)
    x_range = (-0.02, 1.02) if relative else (-0.6, n_layers - 0.4)
    return _Picture(lines, several, relative, n_layers, x_range, top, spans, named, _caption(shown, sets))


def _step(n_layers: int, most: float) -> int:
    """Every how many layers to label, so that at most about `most` labels come."""
    return next((step for step in (1, 2, 5, 10, 20, 50) if n_layers / step <= most), n_layers)


def _short(name: str, limit: int = 44) -> str:
    """A long name without its middle: a model's name says most at its end."""
    return name if len(name) <= limit else f"{name[:14]}…{name[15 - limit :]}"


def _facts(profile: IDProfile) -> list[str]:
    used = [e.n for estimates in profile.estimates.values() for e in estimates]
    span = f"{min(used):,}" if min(used) == max(used) else f"{min(used):,} to {max(used):,}"
    span = f" ({span} points a layer)" if {*used} != {profile.texts.n} else ""
    words = [WORDS.get(word, word) for word in (profile.states, profile.points)]
    return [*words, f"prompt {profile.prompt.name}", f"n = {profile.texts.n:,} texts{span}"]


def _label(profile: IDProfile, shown: list[IDProfile]) -> str:
    """The model, and what tells this profile from the others of the same model."""
    same = [_facts(other) for other in shown if other.model.name == profile.model.name]
    differs = [fact for fact, all_facts in zip(_facts(profile), zip(*same, strict=True), strict=True)
               if {*all_facts} != {fact}]  # fmt: skip
    return ", ".join([_short(profile.model.name), *differs])


def _caption(shown: list[IDProfile], sets: Sequence[LayerSet | None]) -> str:
    one, first = len(shown) == 1, next(iter(shown[0].estimates))
    head = f"{_short(shown[0].model.name)}, {shown[0].model.n_layers} layers" if one else WORDS.get(first, first)
    columns = [list(dict.fromkeys(facts)) for facts in zip(*map(_facts, shown), strict=True)]
    text = f"{head}: {'; '.join(' / '.join(facts) for facts in columns)}."
    text += f" Band: ±{BAND} standard errors (sampling only, not bias)."
    drawn = [row for profile in shown for row in list(profile.estimates.values())[: None if one else 1]]
    if kinds := dict.fromkeys(_short(w.partition(":")[0]) for row in drawn for e in row for w in e.warnings):
        text += f" Hollow: in doubt ({', '.join(kinds)})."
    if one and shown[0].skipped:
        text += f" No estimate at {phrase([*shown[0].skipped])}."
    if one and sets[0] and sets[0].layers:
        text += f" Shaded: chosen by rule {sets[0].rule}; shape of the profile: {sets[0].shape.name}."
    return text.replace("n = ", "n\u00a0=\u00a0")  # kept on one line


def plot_profile(
    profiles: Profiles,
    layer_sets: LayerSets = None,
    ax: Axes | None = None,
    relative_depth: bool | None = None,
    width: float = 5.0,
) -> Axes:
    """ID per layer with its 95 % band (1.96 standard errors), and the chosen layers.

    One profile: every estimator; the chosen layers are shaded. Several: the first estimator of each, one colour a
    profile, the chosen layers as outlined markers, over relative depth ``layer / (n_layers - 1)`` unless
    relative_depth is False. layer_sets: one per profile, or None. ax: where to draw, best in a figure with
    layout="constrained", which makes room for the caption; by default a new figure, `width` inches wide, legible
    when printed at 3.3 in (one column) or 6.9 in. Nothing global is changed.
    Raises InputError when there is no profile, or a layer set does not fit its profile.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = _picture(profiles, layer_sets, relative_depth)
    if ax is not None:
        whole: Any = ax.get_figure(root=True)
        with rc_context({"text.parse_math": STYLE["text.parse_math"]}):
            _draw(picture, ax, ax.get_window_extent().width / whole.dpi)
        return ax
    with rc_context(STYLE):
        figure = Figure(figsize=(width, width), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        around = _draw(picture, ax, width - 0.6)
        figure.set_figheight(0.5 * width + 0.55 + 0.16 * around)
    return ax


def _draw(picture: _Picture, ax: Axes, inches: float) -> int:
    """Draw into axes that are about `inches` wide; return how many lines of words are around them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    size = float(np.clip(36 * inches / picture.n_layers, 1.4, 4.0))
    handles: list[Line2D | Patch] = []
    for line in picture.lines:
        x, y, colour, marker = line.x, line.y, line.colour, line.marker[0]
        ax.fill_between(x, y - line.half_band, y + line.half_band, color=colour, alpha=0.18, lw=0)
        handles += ax.plot(x, y, color=colour, ls=line.dash[0], marker=marker, ms=size, lw=1.3)
        hollow = [bool(e.warnings) for e in line.estimates]
        ax.plot(x[hollow], y[hollow], ls="", marker=marker, ms=size + 0.8, mfc="white", mec=colour, zorder=3)
        if picture.several:
            big = np.array([e.layer in line.chosen for e in line.estimates])
            fill = np.where(hollow, "white", colour)[big]
            ax.scatter(x[big], y[big], s=(size + 2) ** 2, c=fill, marker=marker, lw=1, ec="black", zorder=4)
    for left, right in picture.spans:
        ax.axvspan(left, right, color=SHADE, alpha=0.45, lw=0, zorder=0)
    labels = [line.label for line in picture.lines]
    if picture.chosen:
        outlined = Line2D([], [], ls="", marker="o", ms=6, mfc="0.75", mec="black")
        handles.append(outlined if picture.several else Patch(color=SHADE, alpha=0.45, lw=0))
        labels.append(picture.chosen)

    ax.set_xlabel(X_LABELS[picture.relative])
    ax.set_ylabel(Y_LABEL)
    ax.set_ylim(0, picture.top)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    ax.set_xlim(*picture.x_range)
    if not picture.relative:
        n = picture.n_layers
        ax.set_xticks(range(0, n, _step(n, 4 * inches)))
        ax.set_xticks(range(n) if n <= 40 else (), minor=True)

    # Legend above, caption below; a letter of either is about 4.2 points wide, a handle as wide as 7.
    room = int(72 * inches / 4.2)
    wide = [min(len(label), room - 7) + 7 for label in labels]
    columns = max(c for c in range(1, len(wide) + 1) if c == 1 or sum(sorted(wide)[-c:]) <= room)
    labels = [textwrap.fill(label, room - 7) for label in labels]
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False,
              borderaxespad=0.2, borderpad=0, handlelength=1.8, columnspacing=1.2)  # fmt: skip
    caption = textwrap.wrap(picture.caption, room, break_on_hyphens=False)
    ax.annotate("\n".join(caption), xy=(0, 0), xycoords=("axes fraction", ax.xaxis.label), xytext=(0, -6),
                textcoords="offset points", va="top", fontsize=7.5, color="0.25")  # fmt: skip
    return len(caption) + -(-len(labels) // columns) + sum(label.count("\n") for label in labels)


def profile_html(
    profiles: Profiles, layer_sets: LayerSets = None, relative_depth: bool | None = None
) -> PlotlyFigure:
    """`plot_profile`, interactive: hovering tells layer, ID with its standard error, n, dropped, warnings.

    ``write_html(path, include_plotlyjs=True)`` makes a page that needs no network. Raises as `plot_profile`.
    """
    from plotly import graph_objects as go

    picture = _picture(profiles, layer_sets, relative_depth)
    figure = go.Figure()
    for i, line in enumerate(picture.lines):
        big = [picture.several and e.layer in line.chosen for e in line.estimates]
        figure.add_scatter(
            x=np.concatenate([line.x, line.x[::-1]]),
            y=np.concatenate([line.y + line.half_band, (line.y - line.half_band)[::-1]]),
            fill="toself",
            fillcolor=line.colour,
            opacity=0.18,
            line_width=0,
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=str(i),
        )
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=escape(line.label),
            legendgroup=str(i),
            mode="lines+markers",
            line={"color": line.colour, "dash": line.dash[1], "width": 2},
            marker={
                "symbol": line.marker[1],
                "size": [12 if b else 7 for b in big],
                "color": ["white" if e.warnings else line.colour for e in line.estimates],
                "opacity": 1,
                "line": {"width": 2, "color": ["black" if b else line.colour for b in big]},
            },
            text=[_hover(line, e) for e in line.estimates],
            hovertemplate="%{text}<extra></extra>",
        )
    for left, right in picture.spans:
        figure.add_vrect(x0=left, x1=right, fillcolor=SHADE, opacity=0.45, line_width=0, layer="below")
    if picture.chosen:
        marker: dict[str, Any] = {"symbol": "square", "size": 14, "color": SHADE, "opacity": 0.6}
        if picture.several:
            marker = {"size": 12, "color": "#bbb", "line": {"width": 2, "color": "black"}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=picture.chosen)
    caption = [escape(text) for text in textwrap.wrap(picture.caption, 120)]
    below = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -58, "yanchor": "top"}
    figure.add_annotation(text="<br>".join(caption), align="left", showarrow=False, font_size=12, **below)
    figure.update_layout(
        template="simple_white",
        height=520,
        margin={"t": 40, "r": 20, "b": 70 + 18 * len(caption)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        modebar_remove=["sendChartToCloud"],
        xaxis={"title": X_LABELS[picture.relative], "range": picture.x_range},
        yaxis={"title": Y_LABEL, "range": [0, picture.top], "showgrid": True},
    )
    if not picture.relative:
        figure.update_xaxes(tick0=0, dtick=_step(picture.n_layers, 30))
    return figure


def _hover(line: _Line, e: IDEstimate) -> str:
    facts = [
        f"<b>{escape(line.label)}</b>, layer {e.layer}{' (chosen)' if e.layer in line.chosen else ''}",
        f"ID {e.value:.2f} ± {e.stderr:.2f} (standard error)",
        f"n = {e.n:,} points, {e.dropped:,} duplicates dropped",
    ]
    return "<br>".join(facts + [f"warning: {escape(text)}" for text in e.warnings])


def save_profile_plots(
    profiles: Profiles, layer_sets: LayerSets, folder: str | Path, stem: str = "layer_id", width: float = 5.0
) -> list[Path]:
    """Write `plot_profile` as PNG (200 dots an inch) and PDF (fonts embedded), `profile_html` as HTML.

    The same input gives the same bytes. Each file is written atomically. Returns the paths.
    Raises InputError as `plot_profile`, and when the folder cannot be written.
    """
    page = profile_html(profiles, layer_sets).update_layout(height=None)
    config = {"displaylogo": False, "showSendToCloud": False}
    paths = save_figures({stem: plot_profile(profiles, layer_sets, width=width).figure}, folder)
    with atomic_path(Path(folder) / f"{stem}.html") as temporary:
        page.write_html(temporary, config, div_id=stem, default_height="90vh")
    return [*paths, Path(folder) / f"{stem}.html"]


def new_axes(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> list[Axes]:
    """The axes, row by row, of a new figure in inches; options: of ``Figure.subplots``. Draw within `STYLE`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def styled(draw: Draw) -> Draw:
    """`draw`, run within `STYLE`; matplotlib's own settings stay as they are."""

    @functools.wraps(draw)
    def run(*args: Any, **options: Any) -> Any:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **options)

    return cast(Draw, run)


def save_figures(figures: dict[str, Any], folder: str | Path) -> list[Path]:
    """Write each figure by its name, as PNG (200 dots an inch) and PDF (fonts embedded): the same figure gives the
    same bytes. Each file is written atomically. Returns the paths; raises InputError when it cannot be written."""
    from matplotlib import rc_context

    paths = [Path(folder) / f"{stem}.{kind}" for stem in figures for kind in ("png", "pdf")]
    for path in paths:
        undated = {"CreationDate": None, "ModDate": None} if path.suffix == ".pdf" else {}
        with atomic_path(path) as temporary, rc_context(STYLE):
            figures[path.name.removesuffix(path.suffix)].savefig(temporary, dpi=200, metadata=undated)
    return paths


def beta_html(shift: AttentionShift, kind: str = "local") -> PlotlyFigure:
    """`kvlens.attention_plots.plot_beta` (mean over heads), interactive: hovering tells layer, position, beta, its
    number of tokens, and the head that gives the prefix most."""
    from plotly import graph_objects as go

    heads = shift.arrays[f"beta.{kind}.mean"]
    beta, most, n = heads.mean(1), heads.argmax(1), shift.arrays[f"beta.{kind}.n"]
    ends = np.linspace(0, 100, shift.bins + 1)
    told = np.empty(beta.shape, object)
    for i, j in np.ndindex(beta.shape):
        where = f"layer {shift.layers[i]}, {ends[j]:.0f}-{ends[j + 1]:.0f} % of the {shift.span} tokens"
        told[i, j] = f"{where}<br>β {beta[i, j]:.3f} (n = {n[j]:,} tokens)<br>most in head {most[i, j]}"
        told[i, j] += f": {heads[i, most[i, j], j]:.3f}"
    bar = {"title": "β", "outlinewidth": 0}
    rows = [str(layer) for layer in shift.layers]
    image = go.Heatmap(
        z=beta, x=(ends[1:] + ends[:-1]) / 2, y=rows, text=told, colorscale="Cividis", zmin=0, colorbar=bar
    )
    figure = go.Figure(image.update(hovertemplate="%{text}<extra></extra>"))
    figure.update_yaxes(title="re-routed layer", autorange="reversed", type="category")
    figure.update_xaxes(title=f"relative position, % of the {shift.span} tokens", range=(0, 100))
    title = f"{escape(shift.model.name)}: the prefix's weight β ({kind}), {shift.texts.n} texts"
    return figure.update_layout(template="simple_white", title=title, modebar_remove=["sendChartToCloud"])


def patterns_html(patterns: AttentionPatterns, layer: int, head: int | None = None) -> PlotlyFigure:
    """Attention of one layer before and after (propagated) on one text, interactive: hovering tells query, key
    and weight. The prefix is the first key after; head None: mean over heads. InputError for what is not there."""
    from plotly.subplots import make_subplots

    if layer not in patterns.layers or not (head is None or 0 <= head < patterns.model.n_heads):
        raise InputError(f"no pattern of layer {layer}, head {head}; layers {list(patterns.layers)}")
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
        shown = np.where(seen, np.sqrt(weights), np.nan)  # square-root colours: else the sink alone would show
        figure.add_heatmap(z=shown, text=told, hovertemplate="%{text}<extra></extra>", row=1, col=column + 1, **looks)
        figure.update_xaxes(ticktext=keys, tickangle=-90, title="key", row=1, col=column + 1, **order)
        figure.update_yaxes(
            ticktext=names, tickvals=list(range(len(names))), autorange="reversed", row=1, col=column + 1
        )
    which = "mean over heads" if head is None else f"head {head}"
    title = f"{escape(patterns.model.name)}, layer {layer}, {which} (square-root colours)"
    return figure.update_layout(template="simple_white", title=title, height=520, modebar_remove=["sendChartToCloud"])


def picture_html(ax: Axes, alt: str) -> str:
    """The figure of `ax` as an ``<img>`` that holds its own SVG: no file, no script; same input, same bytes."""
    from base64 import b64encode
    from io import BytesIO

    from matplotlib import rc_context

    figure: Any = ax.get_figure(root=True)
    buffer = BytesIO()
    with rc_context({**STYLE, "svg.hashsalt": "kvlens"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{b64encode(buffer.getvalue()).decode()}">'
