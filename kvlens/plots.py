"""Pictures of results: pure functions, a result -> matplotlib Axes or a plotly Figure. No display is needed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension import IDEstimate, IDProfile
from kvlens.files import InputError, atomic_path
from kvlens.layers import LayerSet, phrase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure as PlotlyFigure

    Profiles = IDProfile | Sequence[IDProfile]
    LayerSets = LayerSet | Sequence[LayerSet | None] | None

# Okabe and Ito's colours, told apart with every common colour vision; without yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# matplotlib's name, plotly's name; shapes and dashes tell curves apart in a grey print.
MARKERS = (("o", "circle"), ("s", "square"), ("^", "triangle-up"), ("D", "diamond"), ("v", "triangle-down"))
DASHES = (("-", "solid"), ("--", "dash"), ("-.", "dashdot"), (":", "dot"))
SHADE = "#F3C94B"
BAND = 1.96
ESTIMATORS = {"twonn": "TwoNN", "mle": "MLE"}
STATES = {"hidden": "hidden states after each block", "k": "keys", "v": "values", "kv": "keys and values"}
POINTS = {"last": "final token", "mean": "mean over tokens", "all": "all tokens"}
X_LABELS = {False: "layer (0-based block index)", True: "relative depth (0 first block, 1 last)"}
Y_LABEL = "intrinsic dimension"
STYLE = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "text.parse_math": False,  # a model's name may hold dollar signs
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class _Line:
    """One curve: its estimates, where they lie on the x axis, its looks, and the layers chosen on it."""

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
    """What both kinds of picture show."""

    lines: list[_Line]
    several: bool
    relative: bool
    n_layers: int
    chosen: str
    caption: str

    @property
    def warned(self) -> bool:
        return any(e.warnings for line in self.lines for e in line.estimates)

    @property
    def top(self) -> float:
        return 1.06 * max(float((line.y + line.half_band).max()) for line in self.lines)


def _picture(profiles: Profiles, layer_sets: LayerSets, relative: bool | None) -> _Picture:
    """Every estimator of one profile, or the first estimator of each of several. Raises InputError."""
    shown = [profiles] if isinstance(profiles, IDProfile) else list(profiles)
    sets = [layer_sets] if isinstance(layer_sets, LayerSet) else list(layer_sets or [None] * len(shown))
    if not shown:
        raise InputError("there is no profile to draw")
    if len(sets) != len(shown):
        raise InputError(f"{len(sets)} layer sets for {len(shown)} profiles: give one for each, or None")
    for profile, chosen in zip(shown, sets, strict=True):
        if chosen is not None and chosen.model != profile.model:
            raise InputError(f"a layer set of {chosen.model.name} does not fit {profile.model.name}")
    several = len(shown) > 1
    relative = several if relative is None else relative
    lines = []
    for i, (profile, chosen) in enumerate(zip(shown, sets, strict=True)):
        depth = max(profile.model.n_layers - 1, 1) if relative else 1
        for j, name in enumerate(list(profile.estimates)[: 1 if several else None]):
            line = _Line(
                label=_label(profile, shown) if several else ESTIMATORS.get(name, name),
                estimates=profile.estimates[name],
                x=np.array(profile.layers) / depth,
                y=profile.values(name),
                half_band=BAND * profile.stderrs(name),
                chosen=chosen.layers if chosen and j == 0 else (),
                colour=COLOURS[(i + j) % len(COLOURS)],
                marker=MARKERS[(i + j) % len(MARKERS)],
                dash=DASHES[((i // len(COLOURS)) + j) % len(DASHES)],
            )
            lines.append(line)
    chosen_text = ""
    if any(chosen and chosen.layers for chosen in sets):
        chosen_text = "chosen layers" if several or not sets[0] else f"chosen: {phrase(sets[0].layers)}"
    n_layers = max(profile.model.n_layers for profile in shown)
    return _Picture(lines, several, relative, n_layers, chosen_text, _caption(shown, sets))


def _short(text: str, limit: int = 44) -> str:
    """A long name without its middle: the end of a model's name says most."""
    return text if len(text) <= limit else f"{text[: limit // 3]}…{text[-(limit - limit // 3 - 1) :]}"


def _facts(profile: IDProfile) -> dict[str, str]:
    used = [e.n for estimates in profile.estimates.values() for e in estimates]
    span = f"{min(used):,}" if min(used) == max(used) else f"{min(used):,} to {max(used):,}"
    points = "" if {*used} == {profile.texts.n} else f" ({span} points a layer)"
    return {
        "states": STATES.get(profile.states, profile.states),
        "points": POINTS.get(profile.points, profile.points),
        "prompt": f"prompt {profile.prompt.name}",
        "n": f"n = {profile.texts.n:,} texts{points}",
    }


def _label(profile: IDProfile, shown: list[IDProfile]) -> str:
    """The model, and what else tells this profile from the others of the same model."""
    same = [_facts(other) for other in shown if other.model.name == profile.model.name]
    differs = [fact for key, fact in _facts(profile).items() if {f[key] for f in same} != {fact}]
    return ", ".join([_short(profile.model.name), *differs])


def _caption(shown: list[IDProfile], sets: Sequence[LayerSet | None]) -> str:
    facts = [_facts(profile) for profile in shown]
    common = [facts[0][key] for key in facts[0] if len({f[key] for f in facts}) == 1]
    if len(shown) == 1:
        head = f"{_short(shown[0].model.name)}, {shown[0].model.n_layers} layers: "
    else:
        first = next(iter(shown[0].estimates))
        head = f"{ESTIMATORS.get(first, first)}, {len(shown)} profiles: "
        common += [] if len({f["n"] for f in facts}) == 1 else ["n " + ", ".join(f["n"][4:] for f in facts)]
    text = f"{head}{'; '.join(common)}. Band: ±{BAND} standard errors (sampling only, not bias)."
    if any(e.warnings for profile in shown for estimates in profile.estimates.values() for e in estimates):
        text += " Hollow: estimate with a warning."
    rules = {(s.rule, s.shape.name) for s in sets if s}
    if len(shown) == 1 and rules:
        rule, shape = rules.pop()
        text += f" Shaded: rule {rule}; shape of the profile: {shape}."
    return text


def plot_profile(
    profiles: Profiles,
    layer_sets: LayerSets = None,
    ax: Axes | None = None,
    relative_depth: bool | None = None,
    width: float = 5.0,
) -> Axes:
    """ID per layer with its 95 % band, and the chosen layers.

    One profile: every estimator, the chosen layers shaded. Several: the first estimator of each, one colour a
    profile, the chosen layers as large markers, over relative depth ``layer / (n_layers - 1)`` unless
    relative_depth says otherwise. layer_sets: one per profile, or None. ax: where to draw; by default a new figure
    of `width` inches, legible when printed at 3.3 in or at 6.9 in. Nothing global is changed.
    Raises InputError when there is no profile, or a layer set does not fit its profile.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = _picture(profiles, layer_sets, relative_depth)
    with rc_context(STYLE if ax is None else {"text.parse_math": False}):
        if ax is None:
            figure = Figure(figsize=(width, 0.72 * width), layout="constrained")
            FigureCanvasAgg(figure)
            ax = figure.add_subplot()
        _draw(picture, ax)
    return ax


def _draw(picture: _Picture, ax: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import AutoMinorLocator, MaxNLocator

    size = float(np.clip(110 / picture.n_layers, 1.5, 4.0))
    handles: list[Line2D | Patch] = []
    for line in picture.lines:
        x, y, colour, marker = line.x, line.y, line.colour, line.marker[0]
        ax.fill_between(x, y - line.half_band, y + line.half_band, color=colour, alpha=0.18, lw=0)
        look = {"color": colour, "ls": line.dash[0], "marker": marker, "ms": size}
        handles += ax.plot(x, y, lw=1.4, label=line.label, **look)
        warned = [i for i, e in enumerate(line.estimates) if e.warnings]
        ax.plot(x[warned], y[warned], ls="", marker=marker, ms=size + 0.6, mfc="white", mec=colour, zorder=3)
        if picture.several:
            chosen = [i for i, e in enumerate(line.estimates) if e.layer in line.chosen]
            fill = ["white" if i in warned else colour for i in chosen]
            ax.scatter(x[chosen], y[chosen], 40, fill, marker, linewidths=1.1, edgecolors="black", zorder=4)
        else:
            for first, last in _runs(line.chosen):
                ax.axvspan(*_span(first, last, picture), color=SHADE, alpha=0.45, lw=0, zorder=0)
    if picture.chosen and picture.several:
        handles.append(Line2D([], [], ls="", marker="o", ms=6, mfc="0.75", mec="black", mew=1.1))
    elif picture.chosen:
        handles.append(Patch(color=SHADE, alpha=0.45, lw=0))
    labels = [line.label for line in picture.lines] + [picture.chosen] * bool(picture.chosen)

    ax.set_ylim(0, picture.top)
    ax.set_xlim(*((-0.02, 1.02) if picture.relative else (-0.6, picture.n_layers - 0.4)))
    ax.set_xlabel(X_LABELS[picture.relative])
    ax.set_ylabel(Y_LABEL)
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    if not picture.relative:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
        ax.xaxis.set_minor_locator(AutoMinorLocator(5 if picture.n_layers > 20 else 2))
    inches = ax.get_figure().get_figwidth() * ax.get_position().width
    room = int(inches * 72 / 4.2)  # characters of 8 points across the axes
    columns = max(1, min(3, room // (max(map(len, labels)) + 6)))
    ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        frameon=False,
        ncols=columns,
        borderaxespad=0.2,
    )
    ax.annotate(
        textwrap.fill(picture.caption, room),
        xy=(0, 0),
        xycoords=("axes fraction", ax.xaxis.label),
        xytext=(0, -6),
        textcoords="offset points",
        va="top",
        fontsize=7.5,
        color="0.25",
    )


def _runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending layers as (first, last) of each unbroken run."""
    starts = [layer for layer in layers if layer - 1 not in layers]
    ends = [layer for layer in layers if layer + 1 not in layers]
    return list(zip(starts, ends, strict=True))


def _span(first: int, last: int, picture: _Picture) -> tuple[float, float]:
    depth = max(picture.n_layers - 1, 1) if picture.relative else 1
    return (first - 0.5) / depth, (last + 0.5) / depth


def profile_html(
    profiles: Profiles, layer_sets: LayerSets = None, relative_depth: bool | None = None
) -> PlotlyFigure:
    """`plot_profile`, interactive: hovering tells layer, ID with its standard error, n, dropped, warnings.

    ``write_html(path, include_plotlyjs=True)`` makes a page that needs no network. Raises as `plot_profile`.
    """
    from plotly import graph_objects as go

    picture = _picture(profiles, layer_sets, relative_depth)
    figure = go.Figure()
    for line in picture.lines:
        chosen = [picture.several and e.layer in line.chosen for e in line.estimates]
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
            legendgroup=line.label,
        )
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=escape(line.label),
            legendgroup=line.label,
            mode="lines+markers",
            line={"color": line.colour, "dash": line.dash[1], "width": 2},
            marker={
                "symbol": [line.marker[1] + "-open" * bool(e.warnings) for e in line.estimates],
                "size": [12 if big else 7 for big in chosen],
                "color": line.colour,
                "line": {"width": 2, "color": ["black" if big else line.colour for big in chosen]},
            },
            text=[_hover(line, e) for e in line.estimates],
            hovertemplate="%{text}<extra></extra>",
        )
        for first, last in _runs(line.chosen) if not picture.several else ():
            x0, x1 = _span(first, last, picture)
            figure.add_vrect(x0=x0, x1=x1, fillcolor=SHADE, opacity=0.45, line_width=0, layer="below")
    if picture.chosen:
        marker = {"symbol": "circle", "size": 12, "color": "#bbbbbb", "line": {"width": 2, "color": "black"}}
        if not picture.several:
            marker = {"symbol": "square", "size": 14, "color": SHADE, "opacity": 0.6}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=picture.chosen)
    caption = [escape(text) for text in textwrap.wrap(picture.caption, 130)]
    figure.add_annotation(
        text="<br>".join(caption),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        yshift=-52,
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 12, "color": "#444"},
    )
    figure.update_layout(
        template="simple_white",
        height=520,
        margin={"t": 40, "r": 20, "b": 80 + 18 * len(caption)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis_title=X_LABELS[picture.relative],
        yaxis={"title": Y_LABEL, "range": [0, picture.top], "showgrid": True},
    )
    return figure


def _hover(line: _Line, e: IDEstimate) -> str:
    facts = [
        f"<b>{escape(line.label)}</b>, layer {e.layer}" + (" (chosen)" if e.layer in line.chosen else ""),
        f"ID {e.value:.2f} ± {e.stderr:.2f} (standard error)",
        f"n = {e.n:,} points, {e.dropped:,} duplicates dropped",
        *(f"warning: {escape(text)}" for text in e.warnings),
    ]
    return "<br>".join(facts)


def save_profile_plots(
    profiles: Profiles, layer_sets: LayerSets, folder: str | Path, stem: str = "layer_id", width: float = 5.0
) -> list[Path]:
    """Write `plot_profile` as PNG (200 dots an inch) and PDF (embedded fonts) and `profile_html` as HTML.

    The same input gives the same bytes. Each file is written atomically. Returns the paths.
    Raises InputError as `plot_profile`, and when the folder cannot be written.
    """
    from matplotlib import rc_context

    figure: Any = plot_profile(profiles, layer_sets, width=width).figure
    page = profile_html(profiles, layer_sets)
    paths = [Path(folder) / f"{stem}.{kind}" for kind in ("png", "pdf", "html")]
    undated: dict[str, dict[str, None]] = {".png": {}, ".pdf": {"CreationDate": None, "ModDate": None}}
    for path in paths:
        with atomic_path(path) as temporary:
            if path.suffix == ".html":
                config = {"displaylogo": False, "responsive": True}
                page.write_html(temporary, include_plotlyjs=True, div_id=stem, config=config)
            else:
                with rc_context(STYLE):
                    figure.savefig(temporary, dpi=200, metadata=undated[path.suffix])
    return paths
