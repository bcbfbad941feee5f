"""What making the site puts into a page: ``<!-- insert: scores retrieval -->``, made of results."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from saved_results import models_with, result, title

from kvlens.evaluation.scores import SIGNIFICANT, Score, Scores
from kvlens.store.layer_ranges import short
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.windows import Window

ROOT = Path(__file__).parents[2]
INSERT = re.compile(r"<!-- insert: (?P<words>.+?) -->")
POST = (None, "zscore", "whiten")


def with_inserts(text: str) -> str:
    """A page with everything that its marks ask for."""
    return INSERT.sub(lambda match: insert(match["words"]), text)


def insert(words: str) -> str:
    """What one mark asks for, as Markdown."""
    name, *arguments = shlex.split(words)
    return INSERTS[name](*arguments)


def _figure(name: str) -> str:
    """A figure of the paper with its caption, and where its data and commands stand."""
    caption = (ROOT / f"figures/{name}.md").read_text(encoding="utf-8").split("\n\n")[1]
    picture = f"![{name}](/figures/{name}.png)"
    return f"{picture}\n\n{caption} [Data and commands](/figures/{name}.md)."


def _all_figures() -> str:
    """Every figure that is there, in the order of its name."""
    names = sorted(path.stem for path in (ROOT / "figures").glob("*.md"))
    return "\n\n".join(f"## {name}\n\n{_figure(name)}" for name in names)


def _scores(kind: str) -> str:
    """A table a model: methods by tasks, a cell with its post-processings."""
    tables = [_score_table(result(kind, model), title(model)) for model in models_with(kind)]
    return "\n\n".join(tables) if tables else "*Not measured yet.*"


def _score_table(scores: Scores, corner: str) -> str:
    cells: dict[tuple[str, str], dict[str | None, Score]] = {}
    for entry in scores.scores:
        cells.setdefault((entry.method_label, entry.task), {})[entry.post] = entry
    tasks = list(dict.fromkeys(entry.task for entry in scores.scores))
    labels = list(dict.fromkeys(entry.method_label for entry in scores.scores))
    kinds = [kind for kind in POST if any(kind in cell for cell in cells.values())]
    rows = [
        [label, *(_cell(cells.get((label, task), {}), kinds) for task in tasks)] for label in labels
    ]
    return _table([corner, *tasks], rows)


def _cell(cell: dict[str | None, Score], kinds: list[str | None]) -> str:
    return " / ".join(_value(cell[kind]) if kind in cell else "" for kind in kinds if cell)


def _value(entry: Score) -> str:
    if entry.p is None or entry.p >= SIGNIFICANT or not entry.difference:
        return f"{entry.value:.1f}"
    return f"{entry.value:.1f}{'+' if entry.difference > 0 else '-'}"


def _windows() -> str:
    """The best window of every width and bias, beside no re-routing."""
    rows = []
    for model in models_with("sweep"):
        sweep = result("sweep", model)
        rows += [_window_row(model, sweep, *key) for key in _widths_and_biases(sweep)]
    return _table(["model", "re-routed", "best window", "its score", "no re-routing", "gain"], rows)


def _widths_and_biases(sweep: Sweep) -> list[tuple[int, float]]:
    return sorted({(len(window.layers), window.bias) for window in sweep.windows})


def _window_row(model: str, sweep: Sweep, width: int, bias: float) -> list[str]:
    best: Window = max(sweep.windows_of(width, bias), key=lambda window: window.spearman)
    layers = "1 layer" if width == 1 else f"{width} layers"
    score = f"{best.spearman:.1f} ({best.low:.1f} to {best.high:.1f})"
    gain = f"{best.spearman - sweep.plain:+.1f}"
    return [
        title(model),
        f"{layers}, bias {bias:g}",
        short(best.layers),
        score,
        f"{sweep.plain:.1f}",
        gain,
    ]


def _layer_sets() -> str:
    """What rule `paper` chooses, and why."""
    rows = []
    for model in models_with("layers"):
        chosen = result("layers", model)
        rows.append([title(model), short(chosen.layers), chosen.shape.name, chosen.reason])
    return _table(["model", "layers", "shape of the profile", "reason"], rows)


def _readouts() -> str:
    """Quality after the last block, and after the best one."""
    rows = []
    for model in models_with("readout"):
        swept = result("readout", model)
        best = swept.best
        gain = f"{best.difference:+.1f} ({best.difference_low:.1f} to {best.difference_high:.1f})"
        norm = "after" if best.final_norm else "before"
        where = f"{best.block} of 0 to {swept.model.n_layers - 1}, {norm} the final norm"
        rows.append(
            [title(model), f"{swept.last.spearman:.1f}", f"{best.spearman:.1f}", where, gain]
        )
    return _table(["model", "last block", "best block", "which", "gain"], rows)


def _decisions() -> str:
    """What `kvlens choose` says of each model that it was run on."""
    found = models_with("decision")
    parts = [f"**{title(model)}**\n\n```text\n{result('decision', model)}\n```" for model in found]
    return "\n\n".join(parts) if parts else "*Not measured yet.*"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


INSERTS: dict[str, Callable[..., str]] = {
    "figure": _figure,
    "figures": _all_figures,
    "scores": _scores,
    "windows": _windows,
    "layer_sets": _layer_sets,
    "readouts": _readouts,
    "decisions": _decisions,
}
