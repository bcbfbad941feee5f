"""Run: methods on mteb's own tasks and scoring, with intervals and significance; it resumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import BATCH_TOKENS
from kvlens.embedding.post import KINDS
from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.candidates import CalibratedPosts, candidates, reference_of
from kvlens.evaluation.data import check_cache
from kvlens.evaluation.evaluation import Evaluation
from kvlens.evaluation.kinds import unit
from kvlens.evaluation.retrieval import IN_MEMORY
from kvlens.evaluation.score_files import ScoreFiles
from kvlens.evaluation.scores import Scores
from kvlens.layers.route import RouteLike, a_route
from kvlens.models.batch_budget import batch_budget
from kvlens.models.chat_prompt import ChatOptions
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.arguments import refusal
from kvlens.store.checking import (
    a,
    arguments,
    choice,
    flag,
    function,
    members,
    names,
    optional,
    path,
    text,
    whole,
)
from kvlens.store.errors import InputError
from kvlens.store.files import cache_folder
from kvlens.store.progress import Bars, silent_bar
from kvlens.texts.limits import LimitOptions, Limits


class EvaluateOptions(LimitOptions, ChatOptions, total=False):
    """Further keywords of `evaluate`.

    Attributes:
        max_length: Most tokens of a text, prompt included; by default the model's context.
        strict: Refuse a longer text, where it is cut otherwise.
        batch_tokens: Most padded tokens of a batch, by default 4,096, and on CUDA as many as fit.
        chat: Put every method's prompts inside the model's chat template, see `kvlens.chat`.
        system: Its system line; by default what the template writes by itself.
        force: Take a layer set that was made for another model.
        csls: Let queries rank documents by CSLS, see `kvlens.evaluation.csls`; other tasks than
            retrieval are scored as ever. No comparable result.
        reference: Which of the methods the others are compared with, written as there; by default
            ``kv_embedding``, where it is among them.
        cache: Where vectors are kept, by default in the user's cache.
        progress: Called with what is being done; gives a context with a callback (done, total).
    """

    force: bool
    csls: bool
    reference: str | None
    cache: EmbeddingCache | None
    progress: Bars | None


def _a_task(name: str, value: Any) -> Any:
    """The check of a task of mteb, which is not imported for that."""
    if isinstance(value, type) or not hasattr(value, "metadata"):
        raise refusal(name, value, "a task of `kvlens.find_tasks`")
    return value


@arguments(
    lm=a_model,
    tasks=members(_a_task, "tasks"),
    folder=path,
    methods=names,
    layers=optional(a_route),
    posts=members(optional(choice(*KINDS)), "post-processings"),
    limit=optional(whole(least=1)),
    instructions=flag,
    chat=flag,
    system=optional(text),
    force=flag,
    csls=flag,
    reference=optional(text),
    cache=optional(a(EmbeddingCache, "an EmbeddingCache")),
    progress=optional(function),
)
def evaluate(
    lm: LanguageModel,
    tasks: Iterable[Any],
    folder: str | Path,
    methods: Sequence[str] = (REFERENCE,),
    layers: RouteLike | None = None,
    posts: Sequence[str | None] = (None,),
    limit: int | None = None,
    instructions: bool = False,
    **options: Unpack[EvaluateOptions],
) -> Scores:
    """Score methods on tasks of mteb: mteb's own main scores x 100.

    Intervals are percentiles of 2,000 seeded bootstrap draws; p is two-sided, from the same draws
    of both methods, adjusted by Holm over the rows of one task and post-processing.

    Args:
        lm: The model.
        tasks: See `kvlens.find_tasks` and `kvlens.long_articles`.
        folder: mteb's results (``results/``), resumed by (model, method, post, task), then
            scores.json, .csv and .md; with a limit, scores-limit-N.* and ``limit-N/results/``.
        methods: Names, with settings after colons if need be, such as ``kv_embedding:layers=none``
            (no re-routing), ``kv_embedding:layers=7-10:bias=3``, ``mean:document=kv-document``;
            ``all``: every one, and no re-routing.
        layers: For kv_embedding, a layer set, its file or block indices.
        posts: Post-processings, a row each; None: without. Fitted on 600 Wikipedia passages;
            ``whiten`` on four times as many as dimensions, ``embed_filter`` on none.
        limit: Only so many pairs, test texts or queries, evenly spread; no comparable result.
        instructions: mteb's task instruction before the prompt of queries and symmetric tasks.
        **options: See `EvaluateOptions`.

    Returns:
        A row a method, post-processing and task, those of retrieval with their hubness; it is
        written to `folder`, too.

    Raises:
        InputError: For what cannot be evaluated.
    """
    force = options.pop("force", False)
    csls = options.pop("csls", False)
    reference = options.pop("reference", None)
    cache = options.pop("cache", None) or EmbeddingCache(cache_folder("embeddings"))
    bars = options.pop("progress", None) or silent_bar
    chat: ChatOptions = {
        "chat": options.pop("chat", False),
        "system": options.pop("system", None),
    }
    limits = Limits.of(options, batch_budget(lm, BATCH_TOKENS))
    tasks = list(tasks)
    _check_tasks(tasks, csls)
    files = ScoreFiles(Path(folder), limit)
    files.check_writable()
    every = tuple(candidates(lm, methods, layers, limits, force, **chat))
    evaluation = Evaluation(
        candidates=every,
        reference=reference_of(every, reference),
        posts=tuple(posts),
        limit=limit,
        instructions=instructions,
        csls=csls,
        cache=cache,
        fits=CalibratedPosts(cache),
        results=files.result_cache(),
        bars=bars,
    )
    table = evaluation.table(tasks, lm.info, limits.tokens_for(lm.info.max_positions))
    files.write(table)
    return table


def _check_tasks(tasks: Sequence[Any], csls: bool) -> None:
    """Raise InputError where CSLS has no use, or where mteb cannot keep the data of a task."""
    if csls and all(unit(task) != "queries" for task in tasks):
        raise InputError("`csls` is for retrieval, and none of the tasks is one")
    if not all(hasattr(task, IN_MEMORY) for task in tasks):
        check_cache()
