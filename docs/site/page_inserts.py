"""What making the site puts into a page: ``<!-- insert: scores retrieval -->``, made of results."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from paper_costs import costs
from saved_results import models_with, result, title
from score_tables import post_table, score_table, table

from kvlens.store.layer_ranges import short
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.windows import Window

ROOT = Path(__file__).parents[2]
INSERT = re.compile(r"<!-- insert: (?P<words>.+?) -->")
NOT_YET = "*Not measured yet.*"


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
    tables = [score_table(result(kind, model), title(model)) for model in models_with(kind)]
    return "\n\n".join(tables) if tables else NOT_YET


def _posts() -> str:
    """A table a model: methods by post-processings."""
    tables = [post_table(result("posts", model), title(model)) for model in models_with("posts")]
    return "\n\n".join(tables) if tables else NOT_YET


def _windows() -> str:
    """The best window of every width and bias, beside no re-routing."""
    rows = []
    for model in models_with("sweep"):
        sweep = result("sweep", model)
        rows += [_window_row(model, sweep, *key) for key in _widths_and_biases(sweep)]
    return table(["model", "re-routed", "best window", "its score", "no re-routing", "gain"], rows)


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
    return table(["model", "layers", "shape of the profile", "reason"], rows)


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
    return table(["model", "last block", "best block", "which", "gain"], rows)


def _decisions(kind: str = "decision") -> str:
    """What `kvlens choose` says of each model that it was run on."""
    found = models_with(kind)
    parts = [f"**{title(model)}**\n\n```text\n{result(kind, model)}\n```" for model in found]
    return "\n\n".join(parts) if parts else NOT_YET


INSERTS: dict[str, Callable[..., str]] = {
    "figure": _figure,
    "figures": _all_figures,
    "scores": _scores,
    "posts": _posts,
    "windows": _windows,
    "layer_sets": _layer_sets,
    "readouts": _readouts,
    "decisions": _decisions,
    "paper": costs,
}
