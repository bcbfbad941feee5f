"""Evaluate: methods on mteb's own tasks and scoring, with intervals, significance, and results that resume."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import Post, fit
from kvlens.embedding.spec import NO_REROUTING, REFERENCE, _encoder, _label
from kvlens.evaluation.adapter import _versions, mteb_encoder
from kvlens.evaluation.items import _run
from kvlens.evaluation.scores import Score, Scores
from kvlens.evaluation.significance import bootstrap, holm, p_value
from kvlens.evaluation.tasks import import_mteb, unit
from kvlens.layers.layer_set import LayerSet
from kvlens.methods.base import methods as all_methods
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.store.files import write_text
from kvlens.texts.prompts import Prompt
from kvlens.texts.wikipedia import calibration_texts

CALIBRATION = 600  # passages that the post-processing is fitted on

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], None]]]


def evaluate(
    lm: LanguageModel,
    tasks: Iterable[Any],
    folder: str | Path,
    methods: Sequence[str] = (REFERENCE,),
    layers: LayerSet | str | Path | Sequence[int] | None = None,
    posts: Sequence[str | None] = (None,),
    limit: int | None = None,
    instructions: bool = False,
    max_length: int | None = None,
    batch_tokens: int = 4096,
    force: bool = False,
    cache: EmbeddingCache | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Scores:
    """Score methods on tasks of mteb (see `kvlens.tasks`, `kvlens.long_context`): mteb's own main scores x 100.

    methods: names, with settings after colons if need be, such as ``kv_embedding:layers=none`` (no re-routing),
    ``kv_embedding:layers=7-10:bias=3``, ``mean:document=kv-document``; ``all``: every one, and no re-routing. layers:
    for kv_embedding, a layer set, its file or block indices. posts: a row each; fitted on 600 Wikipedia passages
    under the document prompt. limit: only so many pairs, test texts or queries, evenly spread; no comparable result.
    instructions: mteb's task instruction in front of the prompt of queries and of symmetric tasks. max_length: token
    limit with the prompt, default the model's context. folder: mteb's results (``results/``), resumed by (model,
    method, post, task), then scores.json, .csv and .md; with a limit, scores-limit-N.* and ``limit-N/results/``.

    Intervals are percentiles of 2,000 seeded bootstrap draws; p is two-sided, from the same draws of both methods,
    adjusted by Holm over the rows of one task and post-processing. Raises InputError for what cannot be evaluated.
    """
    mteb, tasks, folder, cache = import_mteb(), list(tasks), Path(folder), cache or EmbeddingCache()
    specs = [
        part
        for spec in methods
        for part in ([*all_methods(), NO_REROUTING] if spec == "all" else [spec])
    ]
    options = {"max_length": max_length, "batch_tokens": batch_tokens, "force": force}
    encoders = [(spec, _encoder(lm, spec, layers, options)) for spec in dict.fromkeys(specs)]
    try:
        store = mteb.ResultCache(folder / f"limit-{limit}" if limit else folder)
        with tempfile.TemporaryDirectory(dir=store.cache_path):
            pass  # now, not after hours of embedding
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    fits: dict[tuple[str, str], Post] = {}
    scores: list[Score] = []
    for task in tasks:
        rows: list[tuple[Score, np.ndarray]] = []
        name, metric, split = (
            task.metadata.name,
            task.metadata.main_score,
            ",".join(task.eval_splits),
        )
        facts: dict[str, Any] = {"limit": limit} if limit else {}
        facts |= {} if split == ",".join(task.metadata.eval_splits) else {"split": split}
        for spec, plain in encoders:
            for kind in posts:
                encoder = _instructed(plain, task) if instructions else copy(plain)
                label = _label(spec) + (f" + {kind}" if kind else "")
                with (progress or _silent)(f"{label} on {name}") as bar:
                    if kind and (key := (encoder.signature, kind)) not in fits:
                        vectors = cache.encode(
                            encoder, calibration_texts(CALIBRATION).items, "document", bar
                        )
                        fits[key] = fit(vectors, kind, encoder.signature)
                    encoder.post = fits[encoder.signature, kind] if kind else None
                    value, items = _run(
                        mteb_encoder(encoder, cache, facts, bar), task, store, limit
                    )
                draws = bootstrap(items, metric)
                low, high = (round(100 * float(x), 6) for x in np.nanpercentile(draws, (2.5, 97.5)))
                score = Score(
                    method=encoder.method.name,
                    label=label,
                    post=kind,
                    settings=json.loads(json.dumps(encoder.method.settings())),
                    task=name,
                    split=split,
                    metric=metric,
                    value=100 * value,
                    low=low,
                    high=high,
                    n=sum(x.shape[1] for x in items),
                    unit=unit(task),
                    p=None,
                    difference=None,
                    limited=limit is not None,
                )
                rows.append((score, draws))
        scores += _compared(rows)
    longest = encoders[0][1].max_length
    table = Scores(
        model=lm.info,
        max_length=longest,
        scores=tuple(scores),
        versions=_versions(),
        command=command,
    )
    stem = f"scores-limit-{limit}" if limit else "scores"
    table.save(folder / f"{stem}.json")
    write_text(folder / f"{stem}.csv", table.csv())
    write_text(folder / f"{stem}.md", table.markdown())
    return table


def _compared(rows: Sequence[tuple[Score, np.ndarray]]) -> list[Score]:
    """The scores of one task, each with its difference from kv_embedding of the same post-processing."""
    bases = {
        score.post: (score.value, draws)
        for score, draws in rows
        if score.label.split(" + ")[0] == REFERENCE
    }
    found = [score for score, _ in rows]
    for post, (value, base) in bases.items():
        others = [
            i for i, (score, draws) in enumerate(rows) if score.post == post and draws is not base
        ]
        for i, p in zip(others, holm([p_value(rows[i][1] - base) for i in others]), strict=True):
            found[i] = found[i].model_copy(update={"p": p, "difference": found[i].value - value})
    return found


def _instructed(encoder: Encoder, task: Any) -> Encoder:
    """With mteb's instruction in front of the query prompt; of the document prompt where a task has no queries."""
    from mteb.types import PromptType

    asked = unit(task) == "queries"
    text = mteb_encoder(encoder).get_instruction(task.metadata, PromptType.query if asked else None)
    field = "query" if asked else "document"
    plain: Prompt = getattr(encoder.method, field)
    prompt = Prompt(
        name=f"{plain.name}-instructed",
        prefix=f"Instruct: {text}\n{plain.prefix}",
        suffix=plain.suffix,
    )
    changes: dict[str, Any] = {field: prompt}
    method = replace(encoder.method, **changes)
    return Encoder(
        encoder.lm, method, max_length=encoder.max_length, batch_tokens=encoder.batch_tokens
    )


def _silent(what: str) -> contextlib.AbstractContextManager[Callable[[int, int], None]]:
    return contextlib.nullcontext(lambda done, total: None)
