"""The one style of every picture: colours, marks, type, new figures, and how they are written.

What several pictures draw alike (grid, caption, colour bar) is in `kvlens.plots.parts`. No result
is known here.
"""

from __future__ import annotations

import functools
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kvlens.store.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = TypeVar("Draw", bound=Callable[..., Any])

# Okabe and Ito's colours, told apart with every common colour vision;
# without yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHADE = "#F3C94B"  # behind chosen layers
SHADE_ALPHA = 0.45
COLOUR_MAP = "cividis"  # told apart with every common colour vision, and in grey

UNABLE = "#8C8C8C"  # behind layers that cannot be re-routed
UNABLE_ALPHA = 0.16

# Greys, as matplotlib names them: 0 is black.
GRID = "0.9"
STRIPE = "0.96"
CAPTION = "0.25"
GREY_CELL = "0.82"  # of a map, where there is nothing; paler than the darkest colour

# matplotlib's name and plotly's; markers and dashes tell curves apart in a grey print.
MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
)
DASHES = (("-", "solid"), ("--", "dash"), ("-.", "dashdot"), (":", "dot"))

BAND = 1.96  # standard errors to either side: 95 % of a normal distribution

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

DOTS_PER_INCH = 200
# A date would make other bytes of the same figure.
UNDATED: dict[str, dict[str, None]] = {
    "png": {},
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
}
UNSALTED: dict[Any, Any] = {"svg.hashsalt": "kvlens"}  # nor would names drawn at random
FORMATS = tuple(UNDATED)
PAPER_FORMATS = ("png", "pdf")

Item = TypeVar("Item")


def _nth(items: Sequence[Item], i: int) -> Item:
    """Item `i`, beginning again after the last."""
    return items[i % len(items)]


@dataclass(frozen=True)
class Look:
    """How a curve is told from the others, without colour too.

    Attributes:
        colour: one of `COLOURS`.
        marker: matplotlib's name and plotly's, one of `MARKERS`.
        dash: matplotlib's name and plotly's, one of `DASHES`.
    """

    colour: str
    marker: tuple[str, str]
    dash: tuple[str, str]

    @classmethod
    def of(cls, i: int) -> Look:
        """The look of curve `i` (from 0) of a picture."""
        return cls(_nth(COLOURS, i), _nth(MARKERS, i), _nth(DASHES, i))

    @classmethod
    def of_model(cls, i: int) -> Look:
        """The look of model `i` (from 0), whose line is solid until the colours come again."""
        return cls(_nth(COLOURS, i), _nth(MARKERS, i), _nth(DASHES, i // len(COLOURS)))

    @property
    def line(self) -> dict[str, Any]:
        """Of a dashed line with markers: keywords of ``Axes.plot``."""
        return {"color": self.colour, "marker": self.marker[0], "ls": self.dash[0]}

    @property
    def mark(self) -> dict[str, Any]:
        """Of markers without a line: keywords of ``Axes.plot`` and ``Axes.errorbar``."""
        return {"color": self.colour, "marker": self.marker[0], "ls": ""}


def new_axes(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> list[Axes]:
    """The axes of a new figure, row by row. Draw within `STYLE`.

    Args:
        width: of the figure, in inches.
        height: of the figure, in inches.
        rows: how many rows of axes.
        columns: how many columns of axes.
        options: further keywords of ``Figure.subplots``.

    Returns:
        ``rows * columns`` axes. The figure needs no display.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def axes_or_new(
    axes: Axes | Iterable[Axes] | None, width: float, height: float, **options: Any
) -> list[Axes]:
    """The caller's axes, one or several, or those of a new figure.

    The other arguments are those of `new_axes`.
    """
    if axes is None:
        return new_axes(width, height, **options)
    return list(axes) if isinstance(axes, Iterable) else [axes]


def styled(draw: Draw) -> Draw:
    """`draw`, run within `STYLE`; matplotlib's own settings stay as they are."""

    @functools.wraps(draw)
    def run(*args: Any, **options: Any) -> Any:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **options)

    return cast(Draw, run)


def save_figures(
    figures: Mapping[str, Any], folder: str | Path, formats: Sequence[str] = PAPER_FORMATS
) -> list[Path]:
    """Write each figure by its name, as PNG (200 dots an inch) and PDF (fonts embedded).

    The same figure gives the same bytes. Each file is written atomically.

    Args:
        figures: name of the files, without ending -> matplotlib figure.
        folder: where the files go; made when missing.
        formats: of `FORMATS`.

    Returns:
        The paths, every format of each figure in turn.

    Raises:
        InputError: a file cannot be written.
    """
    paths = []
    for name, figure in figures.items():
        for kind in formats:
            path = Path(folder) / f"{name}.{kind}"
            # Drawn in memory: matplotlib fails in words of its own where a disk is full.
            content = _drawn(figure, kind, dpi=DOTS_PER_INCH)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
            paths.append(path)
    return paths


def picture_html(ax: Axes, alt: str) -> str:
    """The figure of `ax` as an ``<img>`` that holds its own SVG: no file, no script.

    The same figure gives the same text.

    Args:
        ax: any axes of the figure.
        alt: the picture in words, for those who cannot see it.
    """
    content = b64encode(_drawn(ax.get_figure(root=True), "svg", bbox_inches="tight")).decode()
    return f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{content}">'


def picture_png(ax: Axes) -> bytes:
    """The figure of `ax` as PNG, 200 dots an inch: for what shows neither HTML nor SVG.

    The same figure gives the same bytes.

    Args:
        ax: any axes of the figure.
    """
    return _drawn(ax.get_figure(root=True), "png", bbox_inches="tight", dpi=DOTS_PER_INCH)


def _drawn(figure: Any, kind: str, **options: Any) -> bytes:
    """A figure as one of `FORMATS`."""
    from matplotlib import rc_context

    content = BytesIO()
    with rc_context({**STYLE, **UNSALTED}):
        figure.savefig(content, format=kind, metadata=UNDATED[kind], **options)
    return content.getvalue()
