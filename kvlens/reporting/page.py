"""`kvlens report`: one self-contained HTML page of a run folder, which opens offline and fetches nothing.

1. read what the folder holds; 2. measure what is missing, if a model is given, and save it beside the rest; 3. fill
the template, report.html, whose words Jinja escapes; report.js draws the attention patterns, 16 bits a weight.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.models.language_model import LanguageModel
from kvlens.reporting.attention_browser import LIMIT, PATTERN_BUDGET, _browser
from kvlens.reporting.measure import Bars, _measure
from kvlens.reporting.run_folder import Run
from kvlens.reporting.verdict import _verdict
from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import versions
from kvlens.texts.texts import Texts


def report(
    folder: str | Path,
    output: str | Path | None = None,
    lm: LanguageModel | Callable[[], LanguageModel] | None = None,
    texts: Texts | None = None,
    n: int = 60,
    bars: Bars = lambda what: nullcontext(lambda done, total: None),
    command: str = "",
) -> Path:
    """Write the page of a run folder (default: report.html in it) and return its path.

    lm: the run's model, or what loads it, called only if attention or geometry is missing; without it the page shows
    what is there. texts: measure attention (again) on these, the average over all, the browser on the first 3 of at
    most 256 tokens. n: how many Wikipedia passages else. bars: what is measured -> context of a progress function.
    Raises InputError as `Run.read` and the measurements do, and when the page would exceed 8 MB.
    """
    run = Run.read(folder)
    if lm is not None and _measure(run, lm, texts, n, bars, command):
        run = Run.read(folder)
    path = Path(output or run.folder / "report.html")
    page = render(run)
    if (size := len(page.encode())) > LIMIT:
        raise InputError(
            f"the report would have {size / 1e6:.1f} MB, over 8: keep fewer attention/patterns files"
        )
    write_text(path, page)
    return path


def render(run: Run) -> str:
    """The page. Raises InputError when the attention patterns do not fit or are damaged."""
    from jinja2 import Environment, StrictUndefined
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from kvlens.plots.geometry import plot_sentences
    from kvlens.plots.profile import plot_profile
    from kvlens.plots.style import COLOUR_MAP, picture_html
    from kvlens.plots.uptake import plot_beta, plot_ends

    share = PATTERN_BUDGET // max(len(run.patterns), 1)
    texts = [_browser(patterns, i, run.layers, share) for i, patterns in enumerate(run.patterns, 1)]
    home = files("kvlens.reporting")
    script = home.joinpath("report.js").read_text(encoding="utf-8")
    pictures = {
        "profile": picture_html(plot_profile(run.profile, run.layers, width=7.4), "ID by layer")
    }
    if run.shift:
        name = "prefix's weight by layer, first and last tenth of the tokens"
        pictures["ends"] = picture_html(plot_ends(run.shift, width=5.4), name)
        pictures["beta"] = picture_html(
            plot_beta(run.shift, width=5.4), "prefix's weight by layer and position"
        )
    if run.geometry:
        name = "cosines of related and unrelated sentences by method"
        pictures["sentences"] = picture_html(plot_sentences(run.geometry, width=11)[0], name)
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return template.from_string(home.joinpath("report.html").read_text(encoding="utf-8")).render(
        run=run,
        verdict=[sentence.replace(" %", "\u00a0%") for sentence in _verdict(run)],
        pictures=pictures,
        data={
            "texts": texts,
            "colours": [to_hex(colormaps[COLOUR_MAP](share)) for share in np.linspace(0, 1, 32)],
        },
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        phrase=phrase,
        versions=_versions(run),
    )


def _versions(run: Run) -> list[tuple[str, str]]:
    """(parts of the run, versions that they were made with): parts made alike share a line."""
    parts: dict[str, Any] = {
        "profile": run.profile,
        "layer set": run.layers,
        "attention shift": run.shift,
    }
    parts |= {f"attention patterns {i}": one for i, one in enumerate(run.patterns, 1)}
    parts |= {"geometry": run.geometry, "evaluation": run.scores, "sweep": run.sweep}
    made: dict[str, list[str]] = {}
    for name, found in [
        *((name, one.versions) for name, one in parts.items() if one),
        ("this page", versions()),
    ]:
        made.setdefault(
            ", ".join(f"{library} {version}" for library, version in found.items()), []
        ).append(name)
    return [(", ".join(names), found) for found, names in made.items()]
