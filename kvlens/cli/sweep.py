"""`kvlens sweep`: quality when re-routing a window, or reading, at every depth."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer, note
from kvlens.cli.candidates import Candidates, Windows
from kvlens.cli.folders import run_folder
from kvlens.cli.options import ChatOptions, DryRun, ModelName, ModelOptions
from kvlens.cli.progress import progress
from kvlens.cli.readout import readout
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, WholeNumber, data_name
from kvlens.store.errors import InputError
from kvlens.store.files import writable_file
from kvlens.store.provenance import current_command, made_by

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.studies.layer_sweep import Sweep
    from kvlens.texts.pairs import Pairs
    from kvlens.texts.prompts import Prompt


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ValidationPairs:
    """What quality is measured on.

    Attributes:
        pairs: validation pairs with sentence1, sentence2, score: .jsonl, .csv, hf://ORG/NAME, ...
        n: how many pairs, evenly spread
    """

    pairs: Dashed
    n: WholeNumber = 300


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class What:
    """What is varied.

    Attributes:
        what: windows: re-route one at every depth; readout: read after every block
        method: what is read after every block, with settings [default: prompt and pooling alone]
    """

    what: Literal["windows", "readout"] = "windows"
    method: str | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Embedded:
    """How texts are embedded.

    Attributes:
        prompt: a named prompt, or a template with {text}
        pooling: last, mean, hybrid, hybrid_unnormalized or text_mean
        position: keep, origin or none: coding of the re-routed key
        batch_tokens: padded tokens in a batch
    """

    prompt: Dashed = "kv-document-inner"
    pooling: str = "hybrid"
    position: str = "keep"
    batch_tokens: WholeNumber = 2048


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """Where the sweep goes; study.json is written beside it.

    Attributes:
        output: file to write [default: runs/MODEL/sweep.json, or readout.json]
        resume: go on with a stopped sweep, or add to an existing one what it lacks
        overwrite: replace existing files
    """

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    resume: bool = False
    overwrite: bool = False

    def path(self, model: str) -> Path:
        """The file; raises InputError where it, or its study, cannot be written or touched."""
        from kvlens.store.part import check_part, part_folder

        file = self.output or run_folder(model) / "sweep.json"
        recover(file.parent)
        writable_file(file)
        writable_file(study_file(file))
        check_part(part_folder(file), self.resume or self.overwrite)
        if self.overwrite or self.resume:
            return file
        for taken in (file, study_file(file)):
            if taken.exists():
                raise InputError(
                    f"{taken} exists: give another `output`, `resume=True` to add to it, "
                    "or `overwrite=True` to replace it"
                )
        return file

    def known(self, file: Path) -> Sweep | None:
        """The sweep that is added to; None where one is made anew."""
        from kvlens.studies.layer_sweep import Sweep

        is_kept = self.resume and not self.overwrite and file.exists()
        return Sweep.load(file) if is_kept else None


def sweep(
    name: ModelName,
    /,
    *,
    pairs: ValidationPairs,
    what: What = What(),
    windows: Windows = Windows(),
    embedded: Embedded = Embedded(),
    chat: ChatOptions = ChatOptions(),
    target: SweepFile = SweepFile(),
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
) -> Answer:
    """Quality when re-routing a window at every depth, and which layers the rules miss.

    With --what readout: quality when reading after every block, and a picture of it.

    Args:
        name: named model, hub id, directory or .gguf file
        pairs: what quality is measured on
        what: what is varied
        windows: which sets of layers are re-routed
        embedded: how texts are embedded
        chat: the chat that the prompt is put into
        target: where the sweep goes
        model: how the model is loaded
        dry: whether anything is done at all
    """
    if what.what == "readout":
        return readout(name, what, pairs, windows, embedded, chat, target, model, dry.dry_run)
    if what.method is not None:
        raise InputError("`method` is read after every block: give it with `what` readout")
    from kvlens.store.part import discard, part_folder
    from kvlens.studies import layer_sweep
    from kvlens.texts.pairs import read_pairs

    file = target.path(name)
    known = target.known(file)
    validation = read_pairs(pairs.pairs, pairs.n)
    candidates = Candidates.read(windows)
    lm = model.load(name, hooked=False)
    candidates.check_model(lm.info)
    prompt = chat.around(lm, embedded.prompt)
    able = lm.info.layers_to_reroute()
    widths = windows.widths or (min(1 + lm.info.n_layers // 10, len(able)),)
    sets = candidates.sets(able, widths)
    if dry.dry_run:
        return _forecast(lm, validation, embedded, prompt, len(set(sets)) * len(windows.biases))
    part = part_folder(file)
    if not target.resume:
        discard(part)
    with made_by(_command(known)), progress(f"sweeping {name}") as bar:
        swept = layer_sweep.sweep(
            lm,
            validation,
            sets,
            windows.biases,
            data=data_name(pairs.pairs),
            known=known,
            progress=bar,
            part=part,
            **{**asdict(embedded), "prompt": prompt},
        )
    swept.save(file)
    return _finished(swept, candidates, file, known)


def _finished(swept: Sweep, candidates: Candidates, file: Path, known: Sweep | None) -> Answer:
    """The answer of a sweep that is saved; what it kept of a stopped run goes.

    Args:
        swept: the sweep.
        candidates: what is judged.
        file: of the sweep.
        known: the sweep that it was added to.
    """
    from kvlens.store.part import discard, part_folder, started_by
    from kvlens.studies.sweep_history import AND

    part = part_folder(file)
    started = started_by(part)
    # The last of the commands that made it; this one only went on with what that has left.
    last = swept.command.split(AND)[-1]
    is_of_last = last in (started, _command(None), current_command())
    replaced = known is None or "--overwrite" in shlex.split(started or "")
    with made_by(last if is_of_last else current_command()):
        answer = _judged(swept, candidates, file, keep=not replaced)
    if started in (None, last):
        discard(part)
    else:
        note(f"{part} has another sweep that was stopped: its own command goes on with it")
    return answer


def _forecast(
    lm: LanguageModel, pairs: Pairs, embedded: Embedded, prompt: Prompt, n_sets: int
) -> Answer:
    """What it would take at most: blocks below a window are run once for all that follow."""
    from kvlens.checks.forecasts import passes
    from kvlens.embedding.encoder import Encoder
    from kvlens.embedding.planned_pass import PlannedPass

    encoder = Encoder(lm, "last_token", document=prompt, batch_tokens=embedded.batch_tokens)
    n = 1 + n_sets  # with the plain pass
    planned = PlannedPass([encoder], "document", pairs.distinct, times=n, sets=n)
    return forecast_answer(passes([planned], is_written=True))


def _command(known: Sweep | None) -> str:
    """The command line to record: that it goes on with a stopped sweep makes no difference."""
    command = current_command()
    if known is None:
        command = shlex.join(word for word in shlex.split(command) if word != "--resume")
    return command


def study_file(sweep_file: Path) -> Path:
    """Where the judgement of a sweep is saved."""
    return sweep_file.with_name("study.json")


def _judged(swept: Sweep, candidates: Candidates, file: Path, keep: bool) -> Answer:
    """Judge the candidates, where there are any.

    Args:
        swept: the sweep, saved in `file`.
        candidates: what is judged.
        file: of the sweep.
        keep: leave a study that is there; else it judged the sweep that was there before.

    Returns:
        The study, or the sweep where nothing was judged.
    """
    from kvlens.studies.regret import study

    judged = study_file(file)
    if not (candidates.profiles or candidates.further):
        if not keep:
            judged.unlink(missing_ok=True)
        return Answer(swept.model_dump(mode="json"), f"{swept}\nwritten to {file}", place=file)
    result = study(swept, candidates.profiles, others=candidates.further)
    result.save(judged)
    text = f"{swept}\n{result}\nwritten to {file} and {judged}"
    return Answer(result.model_dump(mode="json"), text, place=file)
