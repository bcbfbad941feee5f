"""Evaluation: every method with every post-processing on one task after another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.evaluation.adapter import by_csls, mteb_encoder
from kvlens.evaluation.candidates import CalibratedPosts, Candidate
from kvlens.evaluation.comparison import Row, compared
from kvlens.evaluation.csls import NEIGHBOURS
from kvlens.evaluation.kinds import unit
from kvlens.evaluation.model_meta import versions_with_mteb
from kvlens.evaluation.score import Score
from kvlens.evaluation.scores import Scores
from kvlens.evaluation.significance import bootstrap, interval
from kvlens.evaluation.task_score import score_task
from kvlens.models.info import ModelInfo
from kvlens.store.progress import Bars
from kvlens.store.provenance import current_command


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

    def table(self, tasks: Sequence[Any], model: ModelInfo, max_length: int) -> Scores:
        """Every row of every task.

        Args:
            tasks: Of mteb.
            model: That is evaluated.
            max_length: Most tokens of a text.
        """
        return Scores(
            model=model,
            max_length=max_length,
            scores=tuple(score for task in tasks for score in self.scores(task)),
            reference=self.reference,
            versions=versions_with_mteb(),
            command=current_command(),
        )

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
