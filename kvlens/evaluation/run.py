"""Run: methods on mteb's own tasks and scoring, with intervals and significance; it resumes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import BATCH_TOKENS, Encoder
from kvlens.embedding.post import KINDS
from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.adapter import by_csls, mteb_encoder
from kvlens.evaluation.candidates import CalibratedPosts, Candidate, candidates, reference_of
from kvlens.evaluation.comparison import Row, compared
from kvlens.evaluation.csls import NEIGHBOURS
from kvlens.evaluation.data import check_cache
from kvlens.evaluation.kinds import unit
from kvlens.evaluation.model_meta import versions_with_mteb
from kvlens.evaluation.retrieval import IN_MEMORY
from kvlens.evaluation.score_files import ScoreFiles
from kvlens.evaluation.scores import Score, Scores
from kvlens.evaluation.significance import bootstrap, interval
from kvlens.evaluation.task_score import score_task
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
from kvlens.store.provenance import current_command
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
    if csls and all(unit(task) != "queries" for task in tasks):
        raise InputError("`csls` is for retrieval, and none of the tasks is one")
    if not all(hasattr(task, IN_MEMORY) for task in tasks):
        check_cache()
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
    scores = [score for task in tasks for score in evaluation.scores(task)]
    table = Scores(
        model=lm.info,
        max_length=limits.tokens_for(lm.info.max_positions),
        scores=tuple(scores),
        reference=evaluation.reference,
        versions=versions_with_mteb(),
        command=current_command(),
    )
    files.write(table)
    return table


@dataclass(frozen=True)
class Evaluation:
    """What is the same for every task.

    Attributes:
        candidates: The methods.
        reference: The label of the one that the others are compared with.
        posts: The post-processings; None: without.
        limit: Most items of a task.
        instructions: Whether mteb's instructions are used.
        csls: Whether queries rank documents by CSLS.
        cache: Where vectors are kept.
        fits: Gives the post-processings.
        results: mteb's ResultCache.
        bars: Where progress is told.
    """

    candidates: tuple[Candidate, ...]
    reference: str
    posts: tuple[str | None, ...]
    limit: int | None
    instructions: bool
    csls: bool
    cache: EmbeddingCache
    fits: CalibratedPosts
    results: Any
    bars: Bars

    def scores(self, task: Any) -> list[Score]:
        """Every method with every post-processing on one task of mteb."""
        encoders = [each.for_task(task, self.instructions) for each in self.candidates]
        rows = [
            self._row(candidate, post, task, encoders)
            for candidate in self.candidates
            for post in self.posts
        ]
        return compared(rows, self.reference)

    def _row(
        self, candidate: Candidate, post: str | None, task: Any, every: Sequence[Encoder]
    ) -> Row:
        """One method on one task; a pass that serves `every` method that shares it is run once."""
        encoder = candidate.for_task(task, self.instructions)
        label = candidate.spec.with_post(post).label
        beside = [each for each in every if each.signature != encoder.signature]
        with self.bars(f"{label} on {task.metadata.name}") as progress:
            if post:
                encoder.post = self.fits.fitted(encoder, post, progress, beside)
            model = mteb_encoder(encoder, self.cache, self._facts(task), progress, beside)
            if self._ranks_by_csls(task):
                model = by_csls(model)
            task_score = score_task(model, task, self.results, self.limit)
        metric = task.metadata.main_score
        draws = bootstrap(task_score.items, metric)
        low, high = interval(draws)
        score = Score(
            method=encoder.method.name,
            label=label,
            post=post,
            settings=_as_in_a_file(encoder.method.settings()),
            task=task.metadata.name,
            split=_splits(task),
            metric=metric,
            value=100 * task_score.value,
            low=round(100 * float(low), 6),
            high=round(100 * float(high), 6),
            n=task_score.n_items,
            unit=unit(task),
            p=None,
            difference=None,
            limited=self.limit is not None,
            hubness=task_score.hubness,
            csls=self._ranks_by_csls(task),
        )
        return Row(score, draws)

    def _facts(self, task: Any) -> dict[str, Any]:
        """What decides a score besides encoder and data: part of the name it is found again by."""
        facts: dict[str, Any] = {}
        if self.limit:
            facts["limit"] = self.limit
        if list(task.eval_splits) != list(task.metadata.eval_splits):
            facts["split"] = _splits(task)
        if self._ranks_by_csls(task):
            facts["csls"] = NEIGHBOURS
        return facts

    def _ranks_by_csls(self, task: Any) -> bool:
        return self.csls and unit(task) == "queries"


def _splits(task: Any) -> str:
    return ",".join(task.eval_splits)


def _as_in_a_file(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they load from JSON, so that a table equals its file: tuples are lists there."""
    return json.loads(json.dumps(settings))
