"""`kvlens report`: one self-contained page of a run folder, which opens offline.

1. Read what the folder holds.
2. Measure what is missing, if a model is given, and save it beside the rest.
3. Fill the template, report.html, whose words Jinja escapes; a script draws attention.

The page fetches nothing, and its content security policy lets nothing be fetched: the script runs
by its hash, pictures are inside.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kvlens.embedding.spec import REFERENCE
from kvlens.models.language_model import LanguageModel
from kvlens.reporting.attention_browser import browser_data, page_script
from kvlens.reporting.measure import measure_missing
from kvlens.reporting.run_folder import (
    COMMANDS,
    GEOMETRY,
    PATTERNS,
    SCORES,
    SHIFT,
    SWEEP,
    WORDS,
    Run,
)
from kvlens.reporting.templates import page_template
from kvlens.reporting.verdict import verdict
from kvlens.reporting.word_tables import word_tables
from kvlens.store.arguments import refusal
from kvlens.store.checking import a, arguments, function, optional, path, whole
from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.store.layer_ranges import phrase
from kvlens.store.progress import Bars, silent_bar
from kvlens.store.provenance import Provenance, current_command, versions
from kvlens.texts.texts import Texts

PAGE_LIMIT = 8_000_000  # bytes: more is slow to open, and too much for a mail

# What a run can lack -> the section of the page that says so.
SECTIONS = {
    SHIFT: "attention",
    PATTERNS: "attention",
    GEOMETRY: "geometry",
    WORDS: "words",
    SCORES: "evaluation",
    SWEEP: "evaluation",
}


def _a_model_or_loader(name: str, value: Any) -> Any:
    if not isinstance(value, LanguageModel) and not callable(value):
        raise refusal(name, value, "a model of `kvlens.load`, or a function that loads one")
    return value


@arguments(
    folder=path,
    output=optional(path),
    lm=optional(_a_model_or_loader),
    texts=optional(a(Texts, "texts of `kvlens.read_texts`")),
    n=whole(least=1),
    bars=function,
    commands=a(Mapping, "a dict"),
)
def report(
    folder: str | Path,
    output: str | Path | None = None,
    lm: LanguageModel | Callable[[], LanguageModel] | None = None,
    texts: Texts | None = None,
    n: int = 60,
    bars: Bars = silent_bar,
    commands: Mapping[str, str] = COMMANDS,
) -> Path:
    """Write the page of a run folder.

    Args:
        folder: the run folder, with profile.json and layers.json at least.
        output: the page's file; by default report.html in the folder.
        lm: the run's model, or what loads it, called only if something that it can tell is missing;
            without it the page shows what is there.
        texts: measure attention (again) on these: averages over all, single texts on the first 3 of
            at most 256 tokens.
        n: how many Wikipedia passages the averages are over without `texts`.
        bars: what is measured -> a context that gives its progress.
        commands: what a run can lack -> what the page says that makes it.

    Returns:
        The path of the page.

    Raises:
        InputError: as `Run.read` and the measurements do, and when the page would exceed 8 MB.
    """
    run = Run.read(folder)
    if lm is not None and measure_missing(run, lm, texts, n, bars):
        run = Run.read(folder)
    path = Path(output or run.folder / "report.html")
    page = render(run, commands)
    size = len(page.encode())
    if size > PAGE_LIMIT:
        raise InputError(
            f"the report would have {size / 1e6:.1f} MB, over {PAGE_LIMIT / 1e6:.0f}: "
            "keep fewer attention/patterns files"
        )
    write_text(path, page)
    return path


def render(run: Run, commands: Mapping[str, str] = COMMANDS) -> str:
    """The page of a run.

    Args:
        run: what there is.
        commands: what a run can lack -> what the page says that makes it.

    Raises:
        InputError: when the attention patterns do not fit.
    """
    script = page_script()
    return page_template("report.html").render(
        run=run,
        missing=_missing(run, commands),
        verdict=[sentence.replace(" %", "\u00a0%") for sentence in verdict(run)],
        pictures=_pictures(run),
        tables=word_tables(run.words),
        data=browser_data(run.patterns, run.layers),
        script=script,
        script_hash=_hash(script),
        phrase=phrase,
        reference=REFERENCE,
        made_by=_commands(run),
        versions=_versions(run),
    )


def _hash(script: str) -> str:
    """The hash by which a content security policy lets a script run."""
    digest = hashlib.sha256(script.encode()).digest()
    return base64.b64encode(digest).decode()


def _missing(run: Run, commands: Mapping[str, str]) -> list[dict[str, str]]:
    """What is missing, what makes it, and the section of the page that says so."""
    return [
        {"section": SECTIONS[what], "what": what, "command": commands[what]} for what in run.missing
    ]


def _pictures(run: Run) -> dict[str, str]:
    """Name in the template -> an ``<img>`` that holds its picture."""
    from kvlens.plots.decimation import plot_decimation
    from kvlens.plots.effects import plot_effects
    from kvlens.plots.geometry import plot_sentences
    from kvlens.plots.own_words import plot_own_words
    from kvlens.plots.profile import plot_profile
    from kvlens.plots.readout import plot_readout
    from kvlens.plots.style import picture_html
    from kvlens.plots.uptake import plot_beta, plot_ends

    profile = plot_profile(run.profile, run.layers, width=7.4)
    pictures = {"profile": picture_html(profile, "ID by layer")}
    if run.profile.decimation:
        pictures["decimation"] = picture_html(
            plot_decimation(run.profile, width=5.4), "ID by number of texts, a line a layer"
        )
    if run.shift:
        pictures["ends"] = picture_html(
            plot_ends(run.shift, width=5.4),
            "prefix's weight by layer, first and last tenth of the tokens",
        )
        pictures["beta"] = picture_html(
            plot_beta(run.shift, width=5.4), "prefix's weight by layer and position"
        )
    if run.geometry:
        pictures["sentences"] = picture_html(
            plot_sentences(run.geometry, width=11)[0],
            "cosines of related and unrelated sentences by method",
        )
    if run.words:
        pictures["words"] = picture_html(
            plot_own_words(run.words, width=9)[0], "share of the text's own words by layer"
        )
    if run.effects:
        pictures["effects"] = picture_html(
            plot_effects(run.effects, width=9)[0], "how far embeddings move without each part"
        )
    if run.readout:
        pictures["readout"] = picture_html(
            plot_readout(run.readout, run.profile, width=6.4)[0],
            "quality by the block that is read, above the ID curve",
        )
    return pictures


def _commands(run: Run) -> list[tuple[str, str]]:
    """Parts of the run that know the command line which made them."""
    origins = _origins(run).items()
    return [(name, origin.command) for name, origin in origins if origin.command]


def _versions(run: Run) -> list[tuple[str, str]]:
    """Parts of the page, and what versions made them; parts made alike share a row."""
    page = Provenance(run.layers.model, None, None, versions(), current_command())
    names_by_line: dict[str, list[str]] = {}
    for name, origin in {**_origins(run), "this page": page}.items():
        names_by_line.setdefault(origin.versions_line, []).append(name)
    return [(", ".join(names), line) for line, names in names_by_line.items()]


def _origins(run: Run) -> dict[str, Provenance]:
    """Name of each part of the run -> where it comes from."""
    patterns = {f"attention patterns {i}": each for i, each in enumerate(run.patterns, 1)}
    parts: dict[str, Any] = {
        "profile": run.profile,
        "layer set": run.layers,
        "attention shift": run.shift,
        **patterns,
        "geometry": run.geometry,
        "effects": run.effects,
        "words": run.words,
        "evaluation": run.scores,
        "sweep": run.sweep,
        "readout sweep": run.readout,
    }
    return {name: Provenance.of(part) for name, part in parts.items() if part}
