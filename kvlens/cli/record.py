"""`kvlens record`: what the final token holds, written shard by shard while it is recorded."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.folders import output_folder, run_folder
from kvlens.cli.options import (
    TEXTS,
    ChatOptions,
    DryRun,
    LimitOptions,
    ModelName,
    ModelOptions,
    TextOptions,
)
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, Layers, Names, WholeNumber

if TYPE_CHECKING:
    from kvlens.tracing.trace import Trace

WRITES = ("trace.json", "[0-9]*.safetensors")


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class RecordedTexts(TextOptions):
    """Texts and the prompt around each.

    Attributes:
        prompt: a named prompt, or a template with {text}
        n: how many texts [default: all of a file, 600 passages]
    """

    prompt: Dashed = "kv-document-inner"
    n: WholeNumber | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is recorded.

    Attributes:
        points: which hidden states
        keep: which states, comma-separated; also q, z, attn_out
        layers: layers such as 7-10 or 7,9 [default: all]
        tokens: whose K and V: last, first, text, a place (5, -2) or a span (3-7)
    """

    points: Literal["last", "mean", "all"] = "last"
    keep: Names = ("hidden", "k", "k_pre", "v")
    layers: Layers | None = None
    tokens: Names = ("last",)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shards:
    """Where it goes.

    Attributes:
        output: folder to write [default: runs/MODEL-trace]
        shard: texts in a file, and in memory at a time
        resume: continue a stopped run
        overwrite: replace an existing trace, or start a stopped run again
    """

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    shard: WholeNumber = 512
    resume: bool = False
    overwrite: bool = False


def record(
    name: ModelName,
    /,
    *,
    kept: Kept = Kept(),
    target: Shards = Shards(),
    texts: RecordedTexts = RecordedTexts(),
    chat: ChatOptions = ChatOptions(),
    limits: LimitOptions = LimitOptions(),
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
) -> Answer:
    """Hidden states, keys and values of every layer, written while they are recorded.

    Args:
        name: named model, hub id, directory or .gguf file
        kept: what is recorded
        target: where it goes
        texts: which texts are read
        chat: the chat that the prompt is put into
        limits: how long a text may be
        model: how the model is loaded
        dry: whether anything is done at all
    """
    from kvlens.store.part import check_part, discard, part_folder
    from kvlens.tracing.shard_recording import record_shards

    folder = target.output or run_folder(name, suffix="-trace")
    recover(folder)
    part = part_folder(folder)
    check_part(part, target.resume or target.overwrite)
    if dry.dry_run:
        return _forecast(name, kept, target, texts, chat, limits, model)
    with _place(folder, target) as place:
        read = texts.read(texts.n)
        lm = model.load(name)
        with progress(f"recording {name}") as bar:
            trace = record_shards(
                lm,
                read,
                place,
                chat.around(lm, texts.prompt),
                shard=target.shard,
                resume=target.resume,
                overwrite=target.overwrite,
                part=part,
                progress=bar,
                **asdict(kept),
                **asdict(limits),
            )
    discard(part)
    return _answer(folder, trace)


def _forecast(
    name: str,
    kept: Kept,
    target: Shards,
    texts: RecordedTexts,
    chat: ChatOptions,
    limits: LimitOptions,
    model: ModelOptions,
) -> Answer:
    """What it would take."""
    from kvlens.checks.forecasts import recording

    read = texts.read(texts.n)
    lm = model.load(name)
    prompt = chat.around(lm, texts.prompt)
    return forecast_answer(
        recording(lm, read, prompt, limits.to_limits(lm), shard=target.shard, **asdict(kept))
    )


def _place(folder: Path, target: Shards) -> AbstractContextManager[Path]:
    """Where the trace is made: beside its place, or in it, where a finished one may stand."""
    from kvlens.store.part import part_folder
    from kvlens.tracing.shard_recording import check_target

    goes_on = target.resume and not target.overwrite
    if not (folder.exists() and goes_on):
        return output_folder(folder, target.overwrite, WRITES)
    check_target(folder, part_folder(folder), target.resume, target.overwrite)
    return nullcontext(folder)


def _answer(folder: Path, trace: Trace) -> Answer:
    from kvlens.tracing.shards import forms_of

    size = sum(tensor.nbytes for tensor in forms_of(trace.tensors).values())
    data = {
        "folder": str(folder),
        "texts": trace.texts.n,
        "truncated": trace.n_truncated,
        "bytes": size,
    }
    text = f"{trace.texts.n} texts, {size / 1e6:.1f} MB: {folder}"
    if trace.n_truncated:
        text += f"\n{trace.n_truncated} texts truncated to the token limit"
    return Answer(data, text)
