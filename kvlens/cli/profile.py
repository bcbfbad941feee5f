"""`kvlens profile`: intrinsic dimension per layer, and the layers that a rule selects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.engine import EngineOptions, recorded_by_ray
from kvlens.cli.folders import output_folder, run_folder, run_name
from kvlens.cli.options import ChatOptions, DryRun, LimitOptions, ModelOptions, PromptedTexts
from kvlens.cli.progress import progress
from kvlens.cli.recorded import Recorded
from kvlens.cli.values import Layers, Names
from kvlens.layers.rules import RULES
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

if TYPE_CHECKING:
    from kvlens.dimension.profile import IDProfile
    from kvlens.layers.layer_set import LayerSet
    from kvlens.texts.texts import Texts
    from kvlens.tracing.trace import Trace


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is recorded and measured.

    Attributes:
        points: which hidden states
        states: what to measure
        estimators: of scikit-dimension, comma-separated; the first one selects the layers
        draws: random halves of the texts, which tell how stable the choice of layers is
        save_trace: keep the recorded K, V and hidden states too
        shards: record into this folder, shard by shard, as `kvlens record` does; what a stopped
            profile has left there is gone on with
    """

    points: Literal["last", "mean", "all"] = "last"
    states: Literal["hidden", "k", "k_pre", "v", "kv", "q", "z", "attn_out"] = "hidden"
    estimators: Names = ("twonn", "mle")
    draws: int = 50
    save_trace: bool = False
    shards: Path | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The kinds of states that the trace has to hold."""
        from kvlens.tracing.kinds import KEEP

        if self.save_trace:
            return KEEP
        measured = ("k", "v") if self.states == "kv" else (self.states,)
        return tuple(dict.fromkeys([*measured, "k_pre", "v"]))  # the latter for the static prefix


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """How the layers are selected.

    Attributes:
        rule: its name
        window: window, as a share of the layers
        skip_early: share of early layers that rules which rank leave out
        layers: layers for --rule explicit, such as 7-10 or 7,9
        queries: which tokens see the prefix; shielded: all but position 0, where attention sinks
        readout: read hidden states after this block, an index or a share [default: the last]
    """

    rule: Annotated[str, Parameter(help=", ".join(RULES))] = "paper"
    window: float = 0.10
    skip_early: float = 0.20
    layers: Layers | None = None
    queries: Literal["all", "text", "prompt", "shielded"] = "all"
    readout: int | float | None = None


@dataclass(frozen=True)
class Profiled:
    """What was found of one model; not the trace, which is large."""

    profile: IDProfile
    layer_set: LayerSet
    estimator: str
    n: int
    truncated: int

    @property
    def data(self) -> dict[str, Any]:
        """For --json."""
        values = self.profile.values(self.estimator)
        stderrs = self.profile.stderrs(self.estimator)
        sink = self.profile.sink
        stability = self.layer_set.stability
        return {
            "model": self.profile.model.name,
            "layers": list(self.layer_set.layers),
            "reason": self.layer_set.reason,
            "shape": self.layer_set.shape.name,
            "warnings": [*self.layer_set.warnings, *self.profile.warnings],
            "estimator": self.estimator,
            "id": [round(float(value), 3) for value in values],
            "stderr": [round(float(value), 3) for value in stderrs],
            "n": self.n,
            "truncated": self.truncated,
            "sink": sink and sink.model_dump(),
            "stability": stability and stability.model_dump(),
        }

    @property
    def lines(self) -> Iterator[str]:
        """For people."""
        if self.truncated:
            yield f"{self.truncated} of {self.n} texts were truncated to the token limit"
        for warning in self.profile.warnings:
            yield f"warning: {warning}"
        if self.profile.sink:
            yield f"b*: {self.profile.sink}"
        if self.profile.order_of_layers:
            yield f"order of layers: {self.profile.order_of_layers}"
        yield str(self.layer_set)


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
    from kvlens.dimension.copies import MIN_POINTS
    from kvlens.dimension.named import canonical
    from kvlens.plots.saving import save_profile_plots

    start = time.monotonic()
    names = [name.rstrip("/") for name in names]
    folder = output or run_folder(*names)
    several = len(names) > 1
    results = []
    canonical(measured.estimators)  # refused before a model is loaded
    if recorded.trace and (several or measured.save_trace or measured.shards):
        raise InputError("a `trace` is of one model, and there already: leave the rest out")
    if measured.shards and (several or measured.save_trace):
        raise InputError("`shards` are the trace of one model: leave the rest out")
    is_ray = engine.is_ray
    if measured.shards and is_ray:
        raise InputError("`shards` go with `engine='local'`: ray keeps its own until it is done")
    if dry.dry_run:
        return _forecast(names, measured, recorded, texts, chat, limits, model)
    with output_folder(folder, overwrite, WRITES) as scratch, ExitStack() as stack:
        read = None if recorded.trace else texts.read(texts.n, MIN_POINTS)
        for name in names:
            if read is None:
                trace = recorded.of(name)
            elif is_ray:
                beside = folder.with_name(f"{folder.name}-{run_name(name)}") if several else folder
                given = (texts.prompt, measured, beside, overwrite, model, chat, limits)
                shards = recorded_by_ray(engine, name, read, *given)
                trace = stack.enter_context(shards)
            else:
                trace = _recorded(name, read, texts.prompt, measured, chat, limits, model)
            home = scratch / run_name(name) if several else scratch
            results.append(_profiled(trace, name, measured, selection, home))
            del trace
            if several:
                save_profile_plots([results[-1].profile], [results[-1].layer_set], home)
        profiles = [result.profile for result in results]
        save_profile_plots(profiles, [result.layer_set for result in results], scratch)
    return _answer(folder, results, time.monotonic() - start)


def _forecast(
    names: list[str],
    measured: Measured,
    recorded: Recorded,
    texts: PromptedTexts,
    chat: ChatOptions,
    limits: LimitOptions,
    model: ModelOptions,
) -> Answer:
    """What recording would take, model after model: it is what takes long."""
    from kvlens.checks.forecasts import recording
    from kvlens.dimension.copies import MIN_POINTS
    from kvlens.tracing.shard_recording import SHARD

    if recorded.trace:
        raise InputError("with a `trace` nothing is recorded: there is nothing to forecast")
    read = texts.read(texts.n, MIN_POINTS)
    answers = []
    for name in names:
        lm = model.load(name)
        prompt = chat.around(lm, texts.prompt)
        what = (measured.points, measured.kept)
        shard = SHARD if measured.shards else None
        told = recording(lm, read, prompt, limits.to_limits(), *what, shard=shard)
        answers.append(forecast_answer(told))
        del lm
    if len(names) == 1:
        return answers[0]
    data = {name: answer.data for name, answer in zip(names, answers, strict=True)}
    lines = [f"{name}: {answer.text}" for name, answer in zip(names, answers, strict=True)]
    return Answer(data, "\n".join(lines))


def _recorded(
    name: str,
    texts: Texts,
    prompt: str,
    measured: Measured,
    chat: ChatOptions,
    limits: LimitOptions,
    model: ModelOptions,
) -> Trace:
    """Load a model and record it; the model goes when that is done."""
    from kvlens.tracing.recording import record
    from kvlens.tracing.shard_recording import record_shards

    lm = model.load(name)
    around = chat.around(lm, prompt)
    what = (around, measured.points, measured.kept)
    with progress(f"recording {name}") as bar:
        options = {"progress": bar, **asdict(limits)}
        if measured.shards:
            return record_shards(lm, texts, measured.shards, *what, resume=True, **options)
        return record(lm, texts, *what, **options)


def _profiled(
    trace: Trace, name: str, measured: Measured, selection: Selection, home: Path
) -> Profiled:
    """Measure, select, and save both files, and the trace where it is wanted."""
    from kvlens.dimension.estimation import estimate
    from kvlens.dimension.named import canonical
    from kvlens.layers.selection import select
    from kvlens.rerouting.calibration import PREFIX_FILE
    from kvlens.rerouting.static_prefix import KEY, VALUE, static_prefix

    estimator = canonical(measured.estimators)[0]
    with progress(f"estimating {name}", "layers") as bar:
        profile = estimate(
            trace,
            measured.states,
            measured.estimators,
            progress=bar,
            draws=measured.draws,
            device=_search_device(trace),
        )
    layer_set = select(profile, estimator=estimator, **asdict(selection))
    home.mkdir(exist_ok=True)
    profile.save(home / "profile.json")
    layer_set.save(home / "layers.json")
    if all(map(trace.holds, (KEY, VALUE))):
        static_prefix(trace).save(home / PREFIX_FILE)
    if measured.save_trace:
        trace.save(home / "trace.safetensors")
    return Profiled(profile, layer_set, estimator, trace.texts.n, trace.n_truncated)


def _search_device(trace: Trace) -> str:
    """Where the model was, where that is here."""
    import torch

    is_here = trace.model.device.startswith("cuda") and torch.cuda.is_available()
    return "cuda" if is_here else "cpu"


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
