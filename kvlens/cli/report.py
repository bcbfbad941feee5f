"""`kvlens report`: one offline page of a run folder."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.options import TEXTS, ModelOptions, TextOptions
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, WholeNumber
from kvlens.store.errors import InputError
from kvlens.store.files import writable_file

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.reporting.run_folder import Run


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class AttentionTexts(TextOptions):
    """What attention is measured on.

    Attributes:
        texts: measure attention (again) on these: .txt, .jsonl, .csv, .tsv, .parquet, or -
        n: how many texts the averages are over
    """

    texts: Dashed | None = None
    n: WholeNumber = 60


def report(
    folder: Annotated[Path, Parameter(name="RUN_DIR")],
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    no_model: bool = False,
    texts: AttentionTexts = AttentionTexts(),
    model: ModelOptions = ModelOptions(),
) -> Answer:
    """One HTML page of a run: profile, layers, attention, geometry, words, evaluation.

    Args:
        folder: folder that `kvlens profile` wrote
        output: file to write [default: RUN_DIR/report.html]
        no_model: show what is there, measure nothing
        texts: what attention is measured on
        model: how the model is loaded
    """
    from kvlens.reporting import page
    from kvlens.reporting.run_folder import Run

    if no_model and texts.texts:
        raise InputError("`texts` are measured with the model: give them without `no_model`")
    recover(folder)
    recover(folder / "attention")
    writable_file(output or folder / "report.html")
    read = texts.read(texts.n) if texts.texts else None

    def lm() -> LanguageModel:
        return _model_of(folder, model)

    commands = _commands(Run.read(folder))
    path = page.report(
        folder,
        output,
        None if no_model else lm,
        read,
        texts.n,
        progress,
        commands,
    )
    missing = [{"what": what, "command": commands[what]} for what in Run.read(folder).missing]
    size = path.stat().st_size
    lines = [f"not in it: {part['what']} ({part['command']})" for part in missing]
    lines.append(f"written: {path} ({size / 1e6:.1f} MB, opens offline)")
    data = {"report": str(path), "bytes": size, "missing": missing}
    return Answer(data, "\n".join(lines), place=path)


def _commands(run: Run) -> dict[str, str]:
    """What a run can lack -> the command that makes it, to be copied."""
    from kvlens.reporting import run_folder as parts

    folder = shlex.quote(str(run.folder))
    model = shlex.quote(run.layers.model.name)
    report_again = f"kvlens report {folder}"
    return {
        parts.PATTERNS: report_again,
        parts.SHIFT: report_again,
        parts.GEOMETRY: report_again,
        parts.WORDS: report_again,
        parts.SCORES: f"kvlens evaluate {model} --layers {folder}/layers.json -o {folder}",
        parts.SWEEP: f"kvlens sweep {model} --pairs PAIRS.jsonl -o {folder}/sweep.json",
    }


def _model_of(folder: Path, options: ModelOptions) -> LanguageModel:
    """The model of the run, at its revision where that is one of the hub."""
    from kvlens.layers.layer_set import LayerSet

    info = LayerSet.load(folder / "layers.json").model
    if options.revision is None and not info.revision.startswith("sha256:"):
        options = replace(options, revision=info.revision)
    try:
        return options.load(info.name)
    except InputError as error:
        hint = "or give `no_model`, for a page of what is there"
        raise InputError(f"{error}; {hint}") from error
