"""`kvlens profile`: intrinsic dimension per layer, and the layers that a rule selects."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.engine import EngineOptions
from kvlens.cli.folders import output_folder, run_folder, run_name
from kvlens.cli.options import ChatOptions, DryRun, LimitOptions, ModelOptions, PromptedTexts
from kvlens.cli.profile_options import Measured, Selection
from kvlens.cli.profiled import Profiled, profiled
from kvlens.cli.recorded import Recorded
from kvlens.cli.recording import Recording
from kvlens.store.errors import InputError

# Its own files, and what another profile makes outdated: it was measured at the chosen layers.
WRITES = (
    "profile.json",
    "layers.json",
    "trace.safetensors",
    "prefix.safetensors",
    "layer_id.*",
    "layer_id_by_n.*",
    "attention/patterns*.safetensors",
    "attention/shift.safetensors",
    "geometry.json",
    "word_lens.json",
    "scores*.json",
    "scores*.csv",
    "scores*.md",
    "report.html",
)


def profile(
    names: Annotated[list[str], Parameter(name="MODEL", consume_multiple=True)],
    /,
    *,
    measured: Measured = Measured(),
    recorded: Recorded = Recorded(),
    selection: Selection = Selection(),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
    texts: PromptedTexts = PromptedTexts(),
    chat: ChatOptions = ChatOptions(),
    limits: LimitOptions = LimitOptions(),
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
    engine: EngineOptions = EngineOptions(),
) -> Answer:
    """Intrinsic dimension per layer: plot, numbers and the exported layer set.

    Args:
        names: named models, hub ids, directories or .gguf files
        measured: what is recorded and measured
        recorded: what is recorded already
        selection: how the layers are selected
        output: folder to write [default: runs/MODEL]
        overwrite: replace an existing run; sweeps, results/ and files of your own stay
        texts: which texts are read
        chat: the chat that prompts are put into
        limits: how long they may be
        model: how the models are loaded
        dry: whether anything is done at all
        engine: where states are recorded
    """
    from kvlens.dimension.named import canonical
    from kvlens.plots.saving import save_profile_plots

    start = time.monotonic()
    names = [name.rstrip("/") for name in names]
    folder = output or run_folder(*names)
    several = len(names) > 1
    canonical(measured.estimators)  # refused before a model is loaded
    check_together(measured, recorded, engine, several)
    recording = Recording(measured, texts, chat, limits, model, engine, overwrite)
    if dry.dry_run and recorded.trace:
        raise InputError("with a `trace` nothing is recorded: there is nothing to forecast")
    if dry.dry_run:
        return recording.forecast(names)
    results = []
    with output_folder(folder, overwrite, WRITES) as scratch, ExitStack() as stack:
        read = None if recorded.trace else recording.read()
        for name in names:
            home = scratch / run_name(name) if several else scratch
            beside = folder.with_name(f"{folder.name}-{run_name(name)}") if several else folder
            trace = recording.of(name, read, beside, stack) if read else recorded.of(name)
            results.append(profiled(trace, name, measured, selection, home))
            del trace
            if several:
                save_profile_plots([results[-1].profile], [results[-1].layer_set], home)
        profiles = [result.profile for result in results]
        save_profile_plots(profiles, [result.layer_set for result in results], scratch)
    return _answer(folder, results, time.monotonic() - start)


def check_together(
    measured: Measured, recorded: Recorded, engine: EngineOptions, several: bool
) -> None:
    """Raise InputError for options that exclude each other."""
    is_ray = engine.is_ray
    if recorded.trace and (several or measured.save_trace or measured.shards):
        raise InputError("a `trace` is of one model, and there already: leave the rest out")
    if measured.shards and (several or measured.save_trace):
        raise InputError("`shards` are the trace of one model: leave the rest out")
    if measured.shards and is_ray:
        raise InputError("`shards` go with `engine='local'`: ray keeps its own until it is done")


def _answer(folder: Path, results: list[Profiled], seconds: float) -> Answer:
    data = {
        "folder": str(folder),
        "seconds": round(seconds, 1),
        "models": [result.data for result in results],
    }
    lines = [line for result in results for line in result.lines]
    plot = f"plot: {folder / 'layer_id.png'} (also .pdf, .html)"
    lines.append(f"{plot}; layer set: layers.json; numbers: profile.json")
    lines.append(f"done in {seconds:.0f} s")
    return Answer(data, "\n".join(lines))
