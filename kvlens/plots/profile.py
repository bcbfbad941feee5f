"""Pictures of results: pure functions, a result -> matplotlib Axes or a plotly Figure. No display needed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.style import (
    BAND,
    COLOURS,
    DASHES,
    MARKERS,
    SHADE,
    STYLE,
    WORDS,
    save_figures,
)
from kvlens.store.errors import InputError
from kvlens.store.files import atomic_path
from kvlens.store.layer_ranges import phrase, runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure as PlotlyFigure

    Profiles = IDProfile | Sequence[IDProfile]
    LayerSets = LayerSet | Sequence[LayerSet | None] | None

X_LABELS = {False: "layer (0-based block index)", True: "relative depth (0 first block, 1 last)"}
Y_LABEL = "intrinsic dimension"


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
    sets = (
        [layer_sets]
        if isinstance(layer_sets, LayerSet)
        else list(layer_sets or [None] * len(shown))
    )
    if not shown or len(sets) != len(shown):
        raise InputError(
            f"{len(shown)} profiles and {len(sets)} layer sets: give a profile, and one set for each"
        )
    for profile, chosen in zip(shown, sets, strict=True):
        if chosen is not None and chosen.model != profile.model:
            raise InputError(
                f"a layer set of {chosen.model.name} does not fit {profile.model.name}"
            )
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
    return _Picture(
        lines, several, relative, n_layers, x_range, top, spans, named, _caption(shown, sets)
    )


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
    head = (
        f"{_short(shown[0].model.name)}, {shown[0].model.n_layers} layers"
        if one
        else WORDS.get(first, first)
    )
    columns = [list(dict.fromkeys(facts)) for facts in zip(*map(_facts, shown), strict=True)]
    text = f"{head}: {'; '.join(' / '.join(facts) for facts in columns)}."
    text += f" Band: ±{BAND} standard errors (sampling only, not bias)."
    drawn = [
        row for profile in shown for row in list(profile.estimates.values())[: None if one else 1]
    ]
    if kinds := dict.fromkeys(
        _short(w.partition(":")[0]) for row in drawn for e in row for w in e.warnings
    ):
        text += f" Hollow: in doubt ({', '.join(kinds)})."
    if one and shown[0].skipped:
        text += f" No estimate at {phrase([*shown[0].skipped])}."
    if one and sets[0] and sets[0].layers:
        text += (
            f" Shaded: chosen by rule {sets[0].rule}; shape of the profile: {sets[0].shape.name}."
        )
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
        ax.plot(
            x[hollow],
            y[hollow],
            ls="",
            marker=marker,
            ms=size + 0.8,
            mfc="white",
            mec=colour,
            zorder=3,
        )
        if picture.several:
            big = np.array([e.layer in line.chosen for e in line.estimates])
            fill = np.where(hollow, "white", colour)[big]
            ax.scatter(
                x[big], y[big], s=(size + 2) ** 2, c=fill, marker=marker, lw=1, ec="black", zorder=4
            )
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
        figure.add_vrect(
            x0=left, x1=right, fillcolor=SHADE, opacity=0.45, line_width=0, layer="below"
        )
    if picture.chosen:
        marker: dict[str, Any] = {"symbol": "square", "size": 14, "color": SHADE, "opacity": 0.6}
        if picture.several:
            marker = {"size": 12, "color": "#bbb", "line": {"width": 2, "color": "black"}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=picture.chosen)
    caption = [escape(text) for text in textwrap.wrap(picture.caption, 120)]
    below = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yshift": -58, "yanchor": "top"}
    figure.add_annotation(
        text="<br>".join(caption), align="left", showarrow=False, font_size=12, **below
    )
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
    profiles: Profiles,
    layer_sets: LayerSets,
    folder: str | Path,
    stem: str = "layer_id",
    width: float = 5.0,
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
