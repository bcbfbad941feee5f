"""`kvlens evaluate`: methods on tasks of mteb, or on a file of sentence pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.folders import run_folder
from kvlens.cli.options import (
    ChatOptions,
    DryRun,
    LengthOptions,
    ModelName,
    ModelOptions,
    RouteOptions,
)
from kvlens.cli.pairs import PairOptions, score_pairs
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, Names, WholeNumber, layers_or_file
from kvlens.evaluation.made_here import MADE_HERE, Material, make_tasks
from kvlens.store.errors import InputError
from kvlens.store.files import cache_folder, writable_file

if TYPE_CHECKING:
    from kvlens.evaluation.candidates import Candidate

TASKS = f"mteb's tasks or benchmarks, folders of --data-dir, or {', '.join(MADE_HERE)}"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Which tasks, and how they are run.

    Attributes:
        tasks: which, by name
        post: none, center, project_mean, zscore, whiten, embed_filter: a row each
        data_dir: a folder with a folder per task, read in place of the hub
        split: evaluate this split, not the task's own
        limit: a quick look at so many items of a task; NOT comparable
        task_instructions: put mteb's instruction before the prompt
        csls: in retrieval rank by CSLS, which lowers hubs; NOT comparable
        reference: which of --methods the others are compared with [default: kv_embedding]
        lengths: tokens of a document of LongWikipedia
        corpus: long texts in place of Wikipedia, an opening paragraph and a blank line first
        column: field or column that holds the text of --corpus
        output: folder to write, or to continue [default: runs/MODEL]
    """

    tasks: Annotated[Names, Parameter(help=TASKS)] = ("STSBenchmark",)
    post: Names = ("none",)
    data_dir: str | None = None
    split: str | None = None
    limit: WholeNumber | None = None
    task_instructions: bool = False
    csls: bool = False
    reference: str | None = None
    lengths: Names = ("256", "512", "1024", "2048", "4096")
    corpus: Dashed | None = None
    column: str | None = None
    output: Annotated[Path | None, Parameter(alias="-o")] = None

    @property
    def posts(self) -> list[str | None]:
        """The post-processings, None for none; raises InputError for an unknown one."""
        from kvlens.embedding.post import KINDS

        posts = [None if kind == "none" else kind for kind in self.post]
        unknown = [kind for kind in posts if kind is not None and kind not in KINDS]
        if unknown:
            raise InputError(f"`post` takes none, {', '.join(KINDS)}, not {', '.join(unknown)}")
        return posts

    @property
    def document_lengths(self) -> list[int]:
        """The lengths of LongWikipedia's documents; raises InputError for what is no number."""
        if not all(length.isdigit() and int(length) for length in self.lengths):
            given = ",".join(self.lengths)
            raise InputError(f"`lengths` takes numbers of tokens such as 256,1024, not {given}")
        return [int(length) for length in self.lengths]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateLimits(LengthOptions):
    """How long a text may be; batches are larger, since nothing is recorded.

    Attributes:
        batch_tokens: padded tokens in a batch [default: 4096; on a GPU as many as fit]
    """

    batch_tokens: WholeNumber | None = None


def evaluate(
    name: ModelName,
    /,
    *,
    tasks: TaskOptions = TaskOptions(),
    pairs: PairOptions = PairOptions(),
    methods: Names | None = None,
    route: RouteOptions = RouteOptions(),
    chat: ChatOptions = ChatOptions(),
    limits: EvaluateLimits = EvaluateLimits(),
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
) -> Answer:
    """Methods on mteb's tasks, with intervals and significance; resumes. Or on sentence pairs.

    Args:
        name: named model, hub id, directory or .gguf file
        tasks: which tasks
        pairs: or which pairs
        methods: comma-separated, or all; with settings: kv_embedding:layers=none:bias=3
            [default: all; kv_embedding on --pairs]
        route: the layers that are re-routed
        chat: the chat that the prompts are put into
        limits: how long a text may be
        model: how the model is loaded
        dry: whether anything is done at all
    """
    from kvlens.embedding.encoder import BATCH_TOKENS
    from kvlens.texts.pairs import read_pairs

    if pairs.pairs is None:
        _refuse(pairs, "goes with sentence pairs: give their file as `pairs`")
        chosen = methods or ("all",)
        return _on_tasks(name, tasks, chosen, route, chat, limits, model, dry.dry_run)
    _refuse(tasks, "goes with tasks, not with `pairs`")
    validation = read_pairs(pairs.pairs, pairs.n)
    layers = layers_or_file(route.layers)
    lm = model.load(name, hooked=False)
    chosen = methods or ("kv_embedding",)
    how = (limits.to_limits(lm, BATCH_TOKENS), route.force, chat, dry.dry_run)
    return score_pairs(lm, validation, pairs, chosen, layers, *how)


def _refuse(options: TaskOptions | PairOptions, why: str) -> None:
    """Raise InputError where one of the options is not as it is by default."""
    for option in fields(options):
        if getattr(options, option.name) != option.default:
            raise InputError(f"`{option.name}` {why}")


def _on_tasks(
    name: str,
    options: TaskOptions,
    methods: Sequence[str],
    route: RouteOptions,
    chat: ChatOptions,
    limits: EvaluateLimits,
    model: ModelOptions,
    dry_run: bool,
) -> Answer:
    from kvlens.embedding.encoder import BATCH_TOKENS
    from kvlens.evaluation import run
    from kvlens.evaluation.candidates import candidates
    from kvlens.evaluation.tasks import find_tasks
    from kvlens.texts.readers import read_texts

    posts = options.posts
    lengths = options.document_lengths
    folder = options.output or run_folder(name)
    _check_folder(folder, options.limit)
    names = [name for name in options.tasks if name not in MADE_HERE]
    tasks = find_tasks(names, options.data_dir, options.split)
    corpus = read_texts(options.corpus, options.column) if options.corpus else None
    layers = layers_or_file(route.layers)
    lm = model.load(name.rstrip("/"), hooked=False)
    tasks += make_tasks(options.tasks, Material(lm.tokenizer, lengths, corpus))
    if dry_run:
        how = (limits.to_limits(lm, BATCH_TOKENS), route.force)
        every = candidates(lm, methods, layers, *how, **asdict(chat))
        return _forecast(every, tasks, options, posts)
    table = run.evaluate(
        lm,
        tasks,
        folder,
        methods,
        layers,
        posts,
        options.limit,
        options.task_instructions,
        force=route.force,
        csls=options.csls,
        reference=options.reference,
        progress=progress,
        **asdict(chat),
        **asdict(limits),
    )
    return Answer(table.model_dump(mode="json"), table.markdown(), place=folder / "evaluate")


def _forecast(
    every: Sequence[Candidate],
    tasks: Sequence[Any],
    options: TaskOptions,
    posts: Sequence[str | None],
) -> Answer:
    """What it would take; vectors that are kept from before are not computed again."""
    from kvlens.checks.forecasts import passes
    from kvlens.embedding.cache import EmbeddingCache
    from kvlens.evaluation.asked_texts import Expected

    cache = EmbeddingCache(cache_folder("embeddings"))
    how = (options.limit, options.task_instructions, cache)
    expected = Expected(every, posts, *how)
    for task in tasks:
        expected.add(task)
    if not expected.passes:
        return Answer({"texts": 0, "tokens": 0}, "every vector is kept from before: no pass is run")
    return forecast_answer(passes(expected.passes, is_written=True))


def _check_folder(folder: Path, limit: int | None) -> None:
    """Refuse now, and not after hours, a folder that the results cannot be written to."""
    recover(folder)
    stem = f"scores-limit-{limit}" if limit else "scores"
    results = f"limit-{limit}/results" if limit else "results"
    for name in (f"{stem}.json", f"{stem}.csv", f"{stem}.md", f"{results}/any.json"):
        writable_file(folder / name)
