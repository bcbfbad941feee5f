"""A decision: what the best ways to embed gain over no re-routing, and what the proof says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvlens.plots.parts import caption_below, grid, horizontal_bars, legend_above
from kvlens.plots.style import Look, axes_or_new, styled
from kvlens.plots.words import wrapped
from kvlens.store.checking import a, arguments, axes_to_draw_in, optional, real
from kvlens.studies.decision import Decision, Judged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINT: dict[str, Any] = {"ms": 4.5, "lw": 1, "capsize": 2}
KINDS = ("re-routed", "not re-routed")
PROOF = "the proof"
LETTERS = 72  # of a line of a way's name
SAID_BY_THE_WAY = ("window", "another method", "no re-routing")
SCORES = {"pairs": "Spearman × 100", "passages": "score of passages, 0-100"}


@arguments(
    decision=a(Decision, "a decision of `kvlens.choose`"),
    ax=optional(axes_to_draw_in),
    width=real(least=0.5),
)
@styled
def plot_decision(decision: Decision, ax: Axes | None = None, width: float = 6.9) -> Axes:
    """What the best ways gain over the best one without re-routing, with 95 % intervals.

    A row a way, the best on the second part of the items on top, with why it was tried; the last
    row is the margin of the proof, on items that chose nothing.

    Args:
        decision: what was judged.
        ax: where to draw; by default a new figure with a caption below.
        width: of a new figure, in inches.

    Returns:
        The axes.
    """
    rows = decision.shown
    (panel,) = axes_or_new(None if ax is None else [ax], width, 1.3 + 0.27 * (len(rows) + 1))
    for number, kind in enumerate(KINDS):
        places = [place for place, row in enumerate(rows) if bool(row.layers) == (number == 0)]
        gains = [rows[place].gain for place in places]
        horizontal_bars(panel, places, gains, label=kind, **POINT, **Look.of(number).mark)
    horizontal_bars(
        panel, [len(rows)], [decision.proof.margin], label=PROOF, **POINT, **Look.of(2).mark
    )
    panel.axvline(0, color="0.5", lw=0.8)
    names = [*(_name(row) for row in rows), "re-routed less not re-routed"]
    panel.set_yticks(range(len(names)), names, fontsize=6.5)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(f"gain over no re-routing ({SCORES[decision.kind]})", fontsize=8)
    grid(panel, "x")
    legend_above(panel, 3, fontsize=7, columnspacing=1)
    if ax is None:
        caption_below(panel, _caption(decision))
    return panel


def _name(row: Judged) -> str:
    """A line for the way, and one for what chose it."""
    reasons = ", ".join(origin for origin in row.origins if origin not in SAID_BY_THE_WAY)
    lines = wrapped(row.words, LETTERS)
    return "\n".join([*lines, f"[{reasons}]"] if reasons else lines)


def _caption(decision: Decision) -> str:
    return f"{decision.model.name}, {decision.n[1]} {decision.kind}; {decision.verdict}"
