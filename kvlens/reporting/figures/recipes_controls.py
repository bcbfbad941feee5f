"""Figures of what in the prefix acts: its content, the sink, or single heads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.score import Score
from kvlens.evaluation.scores import Scores
from kvlens.plots.parts import grid, horizontal_bars, stripe_rows
from kvlens.plots.style import STRIPE, Look
from kvlens.reporting.figures.layout import DOUBLE, Layout, root_figure
from kvlens.reporting.figures.saved import Drawn, load_all, source
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.studies.comparison import Interval
from kvlens.studies.effects import OWN, Effect, Effects

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADS = 3  # of all, those that add or cost most
STANDING_IN = {"zero": "0", "mean": "the mean of texts", "other": "another text's"}
WHOLE = "the prefix"
SINK = "position 0 sees the prefix"
CONTENT = tuple(
    f"own {OWN[kind]}, not {STANDING_IN[name]}"
    for kind, name in (
        ("value", "zero"),
        ("value", "mean"),
        ("value", "other"),
        ("key", "other"),
        ("content", "other"),
    )
)
ROWS = (WHOLE, *CONTENT, SINK, *(f"{rank} head" for rank in ("strongest", "second", "third")))
POINT: dict[str, Any] = {"ms": 4.5, "lw": 1, "capsize": 2, **Look.of(0).mark}


class Row(NamedTuple):
    """What one part of the prefix adds.

    Attributes:
        name: one of `ROWS`.
        gain: with the part less without it.
        note: beside the point; may be empty.
    """

    name: str
    gain: Interval
    note: str = ""


def controls(data: Path, layout: Layout = DOUBLE) -> Drawn:
    """What in the re-routed prefix acts? Each row is what a part of it adds to the score: quality
    with the part less quality without it, on the same items, with paired 95 % intervals. The
    prefix itself; its content (the text's own value or key, where zeros, the mean of calibration
    texts or another text's stand in); that position 0, the attention sink, sees it; and the three
    query heads that add or cost most on sentence pairs (L4 H1: head 1 of layer 4), which look
    stronger there than they are, since they were found there. Left: sentence pairs, Spearman x 100.
    Long texts, where there are some: whole articles found by their opening paragraph,
    NDCG@10 x 100.
    """
    short = load_all(data, "effects")
    long = _long(data)
    axes = layout.axes(0.24 * len(ROWS) + 1.1, 1, len(short) + len(long), sharey=True)
    for effects, ax in zip(short, axes, strict=False):
        _draw(ax, list(_of_effects(effects)), f"{effects.model.name}\n{_route(effects)}")
        ax.set_xlabel("gain, Spearman × 100")
    ranks = {effects.model.name: _ranked_heads(effects) for effects in short}
    for table, ax in zip(long, axes[len(short) :], strict=True):
        rows = list(_of_scores(table, ranks.get(table.model.name, {})))
        _draw(ax, rows, f"{table.model.name}\n{_task(table)}")
        ax.set_xlabel("gain, NDCG@10 × 100")
    axes[0].set_yticks(range(len(ROWS)), ROWS, fontsize=7)
    axes[0].set_ylim(len(ROWS) - 0.5, -0.5)
    sources = [source(each, _pairs(each)) for each in short]
    sources += [f"{source(each, _items(each))}\n\n{each.table()}" for each in long]
    return Drawn(root_figure(axes), "", sources)


def _long(data: Path) -> list[Scores]:
    try:
        return load_all(data, "controls-long")
    except InputError:
        return []


def _pairs(effects: Effects) -> str:
    return f"n = {effects.n_pairs} pairs of {effects.texts.n} texts, prompt {effects.prompt.name}"


def _route(effects: Effects) -> str:
    (bias,) = set(effects.bias)
    return f"{phrase(effects.layers)}, bias {bias:g}"


def _task(table: Scores) -> str:
    tasks = {score.task for score in table.scores}
    return ", ".join(sorted(tasks))


def _items(table: Scores) -> str:
    score = table.scores[0]
    return f"n = {score.n} {score.unit} of {_task(table)}"


def _draw(ax: Axes, rows: list[Row], title: str) -> None:
    places = [ROWS.index(row.name) for row in rows]
    horizontal_bars(ax, places, [row.gain for row in rows], **POINT)
    for place, row in zip(places, rows, strict=True):
        beside: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 6}
        ax.annotate(row.note, (row.gain.high, place), (4, 0), **beside)
    stripe_rows(ax, 1, len(CONTENT), STRIPE)
    stripe_rows(ax, len(CONTENT) + 2, len(ROWS) - 1, STRIPE)
    ax.axvline(0, color="0.5", lw=0.8)
    ax.set_title(title, fontsize=8)
    ax.tick_params(axis="y", length=0)
    grid(ax, "x")


def _of_effects(effects: Effects) -> Iterator[Row]:
    for effect in effects.effects:
        name = _name(effect)
        if name in ROWS and effect.score is not None:
            yield Row(name, effect.score)
    ranks = _ranked_heads(effects)
    for effect in effects.of("head"):
        row = ranks.get((effect.layer, effect.head))
        if row is not None and effect.score is not None:
            yield Row(row, effect.score, _head_note(effect.layer, effect.head))


def _ranked_heads(effects: Effects) -> dict[tuple[int | None, int | None], str]:
    """The rows of the heads that add or cost most."""
    heads = [effect for effect in effects.of("head") if effect.score is not None]
    strongest = sorted(heads, key=lambda head: -abs(head.score.value if head.score else 0))
    places = ((effect.layer, effect.head) for effect in strongest)
    return dict(zip(places, ROWS[-HEADS:], strict=False))


def _head_note(layer: int | None, head: int | None) -> str:
    return f"L{layer} H{head}"


def _name(effect: Effect) -> str:
    if effect.kind == "route":
        return WHOLE
    if effect.kind == "queries" and effect.name == "position 0":
        return SINK
    if effect.kind in OWN and effect.layer is None:
        return f"own {OWN[effect.kind]}, not {STANDING_IN[effect.name]}"
    return ""


def _of_scores(table: Scores, ranks: dict[tuple[int | None, int | None], str]) -> Iterator[Row]:
    """Rows of a table of kv_embedding as it is and with each control, all with one route.

    Args:
        table: its heads are left out one at a time, in the list of those that see the prefix.
        ranks: the rows of the heads, as sentence pairs rank them.

    Raises:
        InputError: for a table whose rows are compared with another one.
    """
    if table.reference != REFERENCE:
        raise InputError(
            f"the controls of {table.model.name} are compared with {shown(table.reference)}: "
            f"evaluate them beside {REFERENCE}"
        )
    for score in table.scores:
        if score.difference is None or score.difference_low is None:
            continue
        gain = Interval(
            value=-score.difference, low=-(score.difference_high or 0), high=-score.difference_low
        )
        heads = score.settings.get("heads")
        if not heads:
            yield Row(_control(score), gain)
            continue
        left_out = _left_out(heads, table.model.n_heads)
        if left_out in ranks:
            yield Row(ranks[left_out], gain, _head_note(*left_out))


def _left_out(heads: dict[str, list[int]], n_heads: int) -> tuple[int, int]:
    """The layer and the head that does not see the prefix there."""
    ((layer, seeing),) = heads.items()
    (head,) = set(range(n_heads)) - set(seeing)
    return int(layer), head


def _control(score: Score) -> str:
    settings = score.settings
    if not settings["layers"]:
        return WHOLE
    if settings.get("queries") == "shielded":
        return SINK
    key, value = settings.get("key", "own"), settings.get("value", "own")
    kind = "content" if "own" not in (key, value) else "value" if key == "own" else "key"
    return f"own {OWN[kind]}, not {STANDING_IN[value if value != 'own' else key]}"
