"""Shard recording: a trace that is written as it is recorded, and that a stopped run goes on with.

The shards are kept in a folder beside the target, `kvlens.store.part`, until all are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np

from kvlens.models.batch_budget import batch_budget
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import (
    arguments,
    flag,
    function,
    layer_list,
    names,
    optional,
    path,
    text,
    whole,
)
from kvlens.store.chunk_index import Arrays, ChunkIndex, Form, chunk_file
from kvlens.store.errors import InputError
from kvlens.store.files import link, scratch_folder, unwritable
from kvlens.store.part import batch_begun_with, check_part, discard, open_part, part_folder
from kvlens.store.progress import Progress, part_of, silent
from kvlens.store.provenance import versions
from kvlens.texts.limits import BATCH_TOKENS, LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.token_hash import token_hash
from kvlens.tracing.kinds import KEEP, POSITION_ZERO, Points
from kvlens.tracing.recorder import Recorder
from kvlens.tracing.request import Request
from kvlens.tracing.shards import COUNT, INDEX, N_TOKENS, TOKEN_HASHES, TRUNCATED, TraceIndex
from kvlens.tracing.spans import LAST
from kvlens.tracing.trace import Trace

SHARD = 512
UNKNOWN = -1.0  # the length of a state that is not there; no length is negative


@arguments(
    lm=a_model,
    target=path,
    points=text,
    keep=names,
    layers=optional(layer_list),
    shard=whole(least=1),
    resume=flag,
    overwrite=flag,
    part=optional(path),
    progress=optional(function),
    tokens=names,
)
def record_shards(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    target: str | Path,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    points: Points = "last",
    keep: Sequence[str] = KEEP,
    layers: Sequence[int] | None = None,
    shard: int = SHARD,
    resume: bool = False,
    overwrite: bool = False,
    part: str | Path | None = None,
    progress: Progress | None = None,
    tokens: Sequence[str] = (LAST,),
    **limits: Unpack[LimitOptions],
) -> Trace:
    """Record states of `texts` into a folder of files, with `shard` texts in memory at a time.

    Args:
        lm: the model.
        texts: without their prompt.
        target: a folder, made when all is recorded; `Trace.load` reads it.
        prompt: as in `record`.
        points: as in `record`.
        keep: as in `record`.
        layers: as in `record`.
        shard: how many texts a file holds. It groups the texts into batches, which decides the
            last bits: with at least as many as there are texts, they are those of `record`.
        resume: continue after the finished shards of a stopped run, to the same bytes.
        overwrite: start a stopped run again; a folder that is there already is not replaced.
        part: a folder that keeps the finished shards, left when all is done; by default it is
            ``TARGET.part``, and removed.
        progress: called with (texts done, texts).
        tokens: as in `record`.
        **limits: as in `record`.

    Returns:
        The trace, whose tensors stay in the files.

    Raises:
        InputError: as `record`, for a folder that exists or cannot be written, a stopped run that
            neither `resume` nor `overwrite` names, and one with other options.
    """
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    target = Path(target)
    kept = Path(part) if part else part_folder(target)
    check_target(target, kept, resume, overwrite)
    begun = _batches_begun_with(target, kept) if resume else None
    bounds = Limits.of(limits, begun or batch_budget(lm, BATCH_TOKENS))
    request = Request.of(lm.info, points, keep, layers, False, tokens)
    recorder = Recorder.of(lm, prompt, request, bounds)
    index = index_of(recorder, texts, shard)
    if not _is_done(target, index):
        check_target(target, kept, resume=False, overwrite=True)
        if not resume:
            discard(kept)
        _record(recorder, texts, index, kept, target, progress or silent)
    if part is None:
        with scratch_folder(target.resolve()):
            """Entering removes what a run that was killed at its very end has left."""
        discard(kept)
    return Trace.load(target)


def index_of(recorder: Recorder, texts: Texts, shard: int) -> TraceIndex:
    """All but what is known at the end; a stopped run resumes where all of it is the same."""
    request = recorder.request
    return TraceIndex(
        model=recorder.lm.info,
        prompt=recorder.prompt,
        texts=texts.info(),
        points=request.points,
        keep=request.keep,
        layers=request.layers,
        tokens=request.tokens,
        max_length=recorder.max_length,
        batch_tokens=recorder.limits.batch_tokens,
        shard=shard,
        versions=versions(),
    )


def _batches_begun_with(target: Path, part: Path) -> int | None:
    """The padded tokens of a batch of the run that is gone on with, or is done."""
    if (target / INDEX).is_file():
        return TraceIndex.load(target / INDEX).batch_tokens
    return batch_begun_with(part)


def _is_done(target: Path, index: TraceIndex) -> bool:
    """Whether the run was stopped at its very end, when its folder stood already."""
    if not (target / INDEX).is_file():
        return False
    return TraceIndex.load(target / INDEX).facts == index.facts


def check_target(target: Path, part: Path, resume: bool, overwrite: bool) -> None:
    """Refuse a place for a trace; so cheap that it can come before loading a model.

    Args:
        target: the folder that is going to be made.
        part: keeps the finished shards.
        resume: whether a stopped run is continued; one that was stopped at its very end has made
            its folder.
        overwrite: whether a stopped run may be started again.

    Raises:
        InputError: for a folder that exists, or cannot be made, and a stopped run.
    """
    check_part(part, resume or overwrite)
    if resume and (target / INDEX).is_file():
        return
    try:
        empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError as error:
        raise unwritable(target, error) from error
    if not empty:
        raise InputError(f"{target} exists: give another `target`")


def _record(
    recorder: Recorder,
    texts: Texts,
    index: TraceIndex,
    part: Path,
    target: Path,
    progress: Progress,
) -> None:
    """Record what is missing, shard by shard, and put all of it in place."""
    knows_zero = recorder.request.position_zero
    n_truncated = 0
    with open_part(part, index.facts, _forms(recorder), recorder.room) as finished:
        for first in range(0, texts.n, index.shard):
            items = texts.items[first : first + index.shard]
            tell = part_of(progress, first, texts.n)
            arrays = _shard(recorder, items, first, finished, tell)
            n_truncated += int(arrays[TRUNCATED].sum())
            knows_zero = knows_zero and bool((arrays[POSITION_ZERO] >= 0).all())
            progress(first + len(items), texts.n)
        known = {
            "n_truncated": n_truncated,
            "position_zero": knows_zero,
            "shards": finished.finished,
        }
        put_shards_in_place(index.model_copy(update=known), part, target)


def _shard(
    recorder: Recorder, items: Sequence[str], first: int, finished: ChunkIndex, progress: Progress
) -> Arrays:
    compute = partial(shard_arrays, recorder, items, progress)
    return finished.chunk(chunk_file(first), len(items), compute)


def _forms(recorder: Recorder) -> dict[str, Form]:
    """What every shard holds; the first array has a row a text."""
    forms = {
        N_TOKENS: Form("int64", 1),
        TRUNCATED: Form("int64", 1),
        TOKEN_HASHES: Form("uint8", 2),
    }
    request = recorder.request
    if request.position_zero:
        forms[POSITION_ZERO] = Form("float32", 2)
    forms |= {f"{COUNT}@{span}": Form("int64", 1) for span in request.tokens}
    with_keys = set(recorder.lm.anatomy.key_layers)
    for kind in request.keep:
        ndim = 2 if kind in ("hidden", "attn_out") else 3
        layers = request.layers if kind == "hidden" else with_keys.intersection(request.layers)
        spans = request.tokens if kind in request.of_spans else ()
        for each in (kind, *(f"{kind}@{span}" for span in spans)):
            forms |= {f"{each}.{layer}": Form("float32", ndim) for layer in layers}
    return forms


def shard_arrays(recorder: Recorder, items: Sequence[str], progress: Progress) -> Arrays:
    """What a shard holds of its texts."""
    tokenized = recorder.tokenized(items)
    buffers = recorder.recorded(tokenized, progress)
    hashes = "".join(token_hash(text.ids) for text in tokenized)
    arrays: Arrays = {
        N_TOKENS: np.array([len(text.ids) for text in tokenized]),
        TRUNCATED: np.array([int(text.truncated) for text in tokenized]),
        TOKEN_HASHES: np.frombuffer(bytes.fromhex(hashes), np.uint8).reshape(len(items), -1),
    }
    if recorder.request.position_zero:
        ratios = buffers.position_zero.whole_or(UNKNOWN)
        arrays[POSITION_ZERO] = ratios.numpy()
    for span, places in buffers.spans.items():
        arrays[f"{COUNT}@{span}"] = np.array([len(each) for each in places])
    states = buffers.by_layer()
    return arrays | {name: np.ascontiguousarray(states[name].numpy()) for name in states}


def put_shards_in_place(index: TraceIndex, part: Path, target: Path) -> None:
    """Make the folder of the shards of a run, which stay where they are: whole or not at all."""
    try:
        with scratch_folder(target.resolve()) as scratch:
            new = scratch / target.name
            new.mkdir()
            for shard in index.shards:
                link(part / shard.file, new / shard.file)
            index.save(new / INDEX)
            if target.is_dir():
                target.rmdir()
            new.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
