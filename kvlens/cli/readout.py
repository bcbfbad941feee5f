"""`kvlens sweep --what readout`: quality when a method is read after every block."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.folders import check_new_file, run_folder
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import data_name, layers_or_file
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.cli.candidates import Windows
    from kvlens.cli.options import ChatOptions, ModelOptions
    from kvlens.cli.sweep import Embedded, SweepFile, ValidationPairs, What
    from kvlens.dimension.profile import IDProfile
    from kvlens.embedding.encoder import Encoder
    from kvlens.embedding.spec import MethodSpec
    from kvlens.texts.pairs import Pairs


def readout(
    name: str,
    what: What,
    pairs: ValidationPairs,
    windows: Windows,
    embedded: Embedded,
    chat: ChatOptions,
    target: SweepFile,
    model: ModelOptions,
    dry_run: bool,
) -> Answer:
    """Measure, write and draw; the arguments are those of `kvlens sweep`."""
    from kvlens.plots.readout import save_readout
    from kvlens.studies.readout_sweep import readout_sweep
    from kvlens.texts.limits import Limits
    from kvlens.texts.pairs import read_pairs

    file = _file(name, target)
    layers = _layers(windows)
    spec = _spec(what, embedded, layers)
    validation = read_pairs(pairs.pairs, pairs.n)
    profile = _profile(windows)
    lm = model.load(name, hooked=False)
    if profile is not None and not profile.model.same_weights(lm.info):
        raise InputError(f"a profile was made for {profile.model.name}, not for {lm.info.name}")
    if dry_run:
        limits = Limits(batch_tokens=embedded.batch_tokens)
        return _forecast(spec.encoder(lm, layers, limits, **asdict(chat)), validation)
    with progress(f"reading {name} after every block") as bar:
        swept = readout_sweep(
            lm,
            validation,
            spec,
            layers,
            data=data_name(pairs.pairs),
            progress=bar,
            batch_tokens=embedded.batch_tokens,
            **asdict(chat),
        )
    swept.save(file)
    picture, _ = save_readout(swept, profile, file.parent, file.stem)
    text = f"{swept}\nwritten to {file}\n{picture}"
    return Answer(swept.model_dump(mode="json"), text, place=file)


def _forecast(encoder: Encoder, pairs: Pairs) -> Answer:
    """What it would take: one pass, and vectors after every block, with the norm and without."""
    from kvlens.checks.forecasts import passes
    from kvlens.embedding.planned_pass import PlannedPass

    sets = 2 * encoder.lm.info.n_layers
    planned = PlannedPass([encoder], "document", pairs.distinct, sets=sets)
    return forecast_answer(passes([planned]))


def _file(name: str, target: SweepFile) -> Path:
    """Where it goes; raises InputError where that cannot be written or touched."""
    if target.resume:
        raise InputError("`resume` goes on with windows: a readout sweep starts again")
    file = target.output or run_folder(name) / "readout.json"
    check_new_file(file, target.overwrite)
    return file


def _layers(windows: Windows) -> Any:
    """What is re-routed, or None."""
    if windows.widths is not None or windows.biases != (1.0,):
        raise InputError("`widths` and `biases` are of windows: leave them out with `what` readout")
    if len(windows.layers) > 1:
        raise InputError("a readout sweep reads one pass: give `layers` once")
    return layers_or_file(windows.layers[0]) if windows.layers else None


def _spec(what: What, embedded: Embedded, layers: Any) -> MethodSpec:
    """The method that is read: the one that was asked for, or prompt and pooling alone."""
    from kvlens.embedding.spec import REFERENCE, MethodSpec, Setting

    if what.method is not None:
        return MethodSpec.parse(what.method)
    settings = [] if layers is not None else [Setting.parse("layers", "none")]
    settings.append(Setting.parse("document", embedded.prompt))
    settings.append(Setting.parse("pooling", embedded.pooling))
    if layers is not None and embedded.position != "keep":
        settings.append(Setting.parse("position", embedded.position))
    return MethodSpec(REFERENCE, tuple(settings))


def _profile(windows: Windows) -> IDProfile | None:
    """The profile whose ID is drawn below."""
    from kvlens.dimension.profile import IDProfile

    for path in windows.profiles[:1]:
        recover(Path(path).parent)
        return IDProfile.load(path)
    return None
