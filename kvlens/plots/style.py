"""Style: one look for every picture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.store.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Profiles = IDProfile | Sequence[IDProfile]
    LayerSets = LayerSet | Sequence[LayerSet | None] | None


Draw = TypeVar("Draw", bound=Callable[..., Any])


# Okabe and Ito's colours, told apart with every common colour vision; without yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


SHADE = "#F3C94B"


# matplotlib's name and plotly's; markers and dashes tell curves apart in a grey print.
MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
)


DASHES = (("-", "solid"), ("--", "dash"), ("-.", "dashdot"), (":", "dot"))


BAND = 1.96


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


def new_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> list[Axes]:
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
            figures[path.name.removesuffix(path.suffix)].savefig(
                temporary, dpi=200, metadata=undated
            )
    return paths


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
