"""`kvlens embed`: vectors for a file of texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.engine import EmbedEngine, encoder_recipe
from kvlens.cli.options import (
    TEXTS,
    ChatOptions,
    DryRun,
    LimitOptions,
    ModelName,
    ModelOptions,
    RouteOptions,
)
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, WholeNumber
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder
    from kvlens.embedding.file_options import FileRun
    from kvlens.embedding.file_run import EmbedResult


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class Source:
    """Which texts are embedded.

    Attributes:
        input: .txt, .jsonl, .csv, .tsv, .parquet (also .gz, .zst), -, s3://... or hf://ORG/NAME
        column: field or column that holds the text
        id_column: field or column that holds the ids [default: id or _id, else the row number]
        skip_bad: leave out and count rows without a usable text
    """

    input: Annotated[Dashed, Parameter(alias="-i")]
    column: str | None = None
    id_column: str | None = None
    skip_bad: bool = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What a vector is.

    Attributes:
        method: an embedding method, with settings such as kv_embedding:layers=7-8:bias=3
        kind: which prompt
        normalize: unit length
        truncate_dim: keep so many leading dimensions
        post: center, project_mean, zscore, whiten, fitted before; embed_filter; or a file
        fit_post: fit it now, on Wikipedia passages
    """

    method: str = "kv_embedding"
    kind: Literal["document", "query"] = "document"
    normalize: bool = False
    truncate_dim: WholeNumber | None = None
    post: str | None = None
    fit_post: Literal["center", "project_mean", "zscore", "whiten", "embed_filter"] | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the vectors go.

    Attributes:
        output: .npy (ids in OUTPUT.json), .safetensors, .parquet (with ray: a folder)
        chunk: texts finished at a time, for --resume
        resume: continue a stopped run
        overwrite: replace existing vectors, or start a stopped run again
    """

    output: Annotated[Path, Parameter(alias="-o")]
    chunk: WholeNumber = 256
    resume: bool = False
    overwrite: bool = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FittedRoute(RouteOptions):
    """The layers that are re-routed, and whether another model's files are used.

    Attributes:
        force: use a layer set or post-processing of another model
    """

    force: bool = False


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class EmbedLimits(LimitOptions):
    """How long a text may be; batches are larger, since nothing is recorded.

    Attributes:
        batch_tokens: padded tokens in a batch [default: 4096; on a GPU as many as fit]
    """

    batch_tokens: WholeNumber | None = None


def embed(
    name: ModelName,
    /,
    *,
    source: Source,
    target: Target,
    vectors: Vectors = Vectors(),
    route: FittedRoute = FittedRoute(),
    chat: ChatOptions = ChatOptions(),
    limits: EmbedLimits = EmbedLimits(),
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
    engine: EmbedEngine = EmbedEngine(),
) -> Answer:
    """Vectors for a file of texts, with the exported layer set.

    Args:
        name: named model, hub id, directory or .gguf file
        source: which texts
        target: where the vectors go
        vectors: what a vector is
        route: the layers that are re-routed
        chat: the chat that the prompts are put into
        limits: how long a text may be
        model: how the model is loaded
        dry: whether anything is done at all
        engine: where it is computed
    """
    from kvlens.embedding.file_run import embed_file
    from kvlens.embedding.target import check_target

    recover(target.output.parent)
    recipe = encoder_recipe(name, vectors, route, chat, limits, model)
    run = _run(source, target, vectors)
    if engine.is_ray and not dry.dry_run:
        _check_nothing_is_fitted(vectors)
        return _answer(engine.embed(recipe, source, target.output, run), target.output)
    check_target(target.output, source.input, target.resume, target.overwrite)
    encoder = recipe.encoder_of(model.load(name, hooked=False))
    if dry.dry_run:
        return _forecast(encoder, source, run)
    if vectors.fit_post:
        encoder.fit_post(vectors.fit_post)
    with progress(f"embedding {source.input}") as bar:
        result = embed_file(
            encoder,
            source.input,
            target.output,
            column=source.column,
            id_column=source.id_column,
            progress=bar,
            **asdict(run),
        )
    return _answer(result, target.output)


def _run(source: Source, target: Target, vectors: Vectors) -> FileRun:
    from kvlens.embedding.file_options import FileRun

    return FileRun(
        kind=vectors.kind,
        normalize=vectors.normalize,
        truncate_dim=vectors.truncate_dim,
        skip_bad=source.skip_bad,
        resume=target.resume,
        overwrite=target.overwrite,
        chunk=target.chunk,
    )


def _check_nothing_is_fitted(vectors: Vectors) -> None:
    if vectors.fit_post:
        raise InputError(
            "`fit_post` goes with `engine='local'`: fit it there with a few texts, which keeps it "
            "beside the file of `layers`, and name it here by `post`"
        )


def _forecast(encoder: Encoder, source: Source, run: FileRun) -> Answer:
    """What it would take; a post-processing that would be fitted is left out, since it is saved."""
    from kvlens.checks.forecasts import embedding
    from kvlens.texts.scan import usable
    from kvlens.texts.text_file import TextFile

    ids = source.id_column or True
    file = TextFile.at(source.input, source.column, ids, source.skip_bad, empty=True)
    return forecast_answer(embedding(encoder, (entry.text for entry in usable(file)), run))


def _answer(result: EmbedResult, output: Path) -> Answer:
    data = {"output": str(output), **asdict(result)}
    return Answer(data, _text(result, output), place=output)


def _text(result: EmbedResult, output: Path) -> str:
    size = f"{result.rows} vectors of {result.dimension} dimensions"
    text = f"{size} in {result.seconds:.0f} s: {output}"
    if result.complete:
        text = f"complete already, and whole: {size} in {output}"
    if result.truncated or result.skipped:
        text += (
            f"\n{result.truncated} texts truncated to the token limit, "
            f"{result.skipped} bad rows skipped"
        )
    return text
