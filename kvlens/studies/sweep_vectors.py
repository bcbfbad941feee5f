"""Sweep vectors: texts embedded by many routes, in one pass over the texts.

1. per batch one plain forward pass, whose hidden states at the block boundaries are kept;
2. for every route only the blocks from its lowest one on are run again, re-routed;
3. what comes out is pooled, and each pair of texts has a cosine.

It does not know what the cosines are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn.functional import normalize

from kvlens.layers.route import Route
from kvlens.methods.base import check_pooling
from kvlens.methods.pooling import POOLINGS
from kvlens.models.forward import finite_or_refuse
from kvlens.models.language_model import LanguageModel
from kvlens.models.short_memory import computed
from kvlens.rerouting.door import check_route
from kvlens.rerouting.partial_pass import final_states
from kvlens.store.chunk_index import Arrays, ChunkIndex, Form, chunk_file
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import Prompt
from kvlens.texts.tokens import tokenize

DIGITS = 7  # of a cosine: what float32 holds
FORMS = {"vectors": Form("float32", 3)}  # of a batch: rows, sets, d_model


@dataclass(frozen=True)
class Embedding:
    """How texts become vectors, whatever is re-routed.

    Attributes:
        prompt: around each text.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
        limits: of the forward passes.
    """

    prompt: Prompt
    pooling: str
    limits: Limits


def pair_cosines(
    lm: LanguageModel,
    pairs: Pairs,
    routes: Sequence[Route],
    embedding: Embedding,
    progress: Progress | None = None,
    finished: ChunkIndex | None = None,
) -> Float64[np.ndarray, "sets n_pairs"]:
    """The cosine of each pair of texts: on the plain model, then by each route.

    Args:
        lm: the model.
        pairs: of texts; equal texts are embedded once.
        routes: what is re-routed.
        embedding: how texts become vectors.
        progress: called with (texts done, texts).
        finished: see `route_vectors`.

    Returns:
        Cosines, rounded to 7 digits; row 0 is the plain model.

    Raises:
        InputError: as `route_vectors`.
    """
    texts = pairs.distinct
    vectors = normalize(route_vectors(lm, texts, routes, embedding, progress, finished), dim=-1)
    row_of = {text: row for row, text in enumerate(texts)}
    first = vectors[:, [row_of[text] for text in pairs.first]]
    second = vectors[:, [row_of[text] for text in pairs.second]]
    return np.round((first * second).sum(-1).double().numpy(), DIGITS)


def refuse_unrankable(pairs: Pairs) -> None:
    """Raise InputError where no vectors whatever could be ranked, before any is made."""
    if pairs.first == pairs.second:
        raise InputError("each pair is one text twice: all cosines would be 1, give other pairs")
    if np.ptp(pairs.scores) == 0:
        raise InputError("all scores of the pairs are equal, nothing can be ranked by them")


def route_vectors(
    lm: LanguageModel,
    texts: Sequence[str],
    routes: Sequence[Route],
    embedding: Embedding,
    progress: Progress | None = None,
    finished: ChunkIndex | None = None,
) -> Float32[Tensor, "sets n_texts d_model"]:
    """Vectors of `texts`: of the plain model, then by each route.

    Args:
        lm: the model.
        texts: the texts.
        routes: what is re-routed.
        embedding: how texts become vectors.
        progress: called with (texts done, texts).
        finished: where each batch's vectors are kept; those that are there are not computed.

    Returns:
        Vectors on the CPU, as pooled; row 0 is the plain model.

    Raises:
        InputError: as `reroute`, for an unknown pooling, and on NaN.
    """
    prompt, limits = embedding.prompt, embedding.limits
    return _vectors(lm, texts, routes, prompt, (embedding.pooling,), limits, progress, finished)


def pooled_route_vectors(
    lm: LanguageModel,
    texts: Sequence[str],
    routes: Sequence[Route],
    prompt: Prompt,
    poolings: Sequence[str],
    limits: Limits,
    progress: Progress | None = None,
) -> Float32[Tensor, "sets poolings n_texts d_model"]:
    """Vectors of `texts` by several poolings of the same passes, see `route_vectors`.

    Args:
        lm: the model.
        texts: the texts.
        routes: what is re-routed.
        prompt: around each text.
        poolings: of `kvlens.methods.pooling.POOLINGS`.
        limits: of the forward passes.
        progress: called with (texts done, texts).

    Returns:
        Vectors on the CPU, as pooled; row 0 is the plain model.

    Raises:
        InputError: as `route_vectors`.
    """
    vectors = _vectors(lm, texts, routes, prompt, poolings, limits, progress)
    return vectors.unflatten(0, (1 + len(routes), len(poolings)))


def _vectors(
    lm: LanguageModel,
    texts: Sequence[str],
    routes: Sequence[Route],
    prompt: Prompt,
    poolings: Sequence[str],
    limits: Limits,
    progress: Progress | None = None,
    finished: ChunkIndex | None = None,
) -> Float32[Tensor, "rows n_texts d_model"]:
    """The vectors of every route by every pooling, those of a route beside each other."""
    for route in routes:
        check_route(lm, route)
    for pooling in poolings:
        check_pooling(pooling)
    progress = progress or silent
    most = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts, prompt, most, limits.strict)
    n_rows = (1 + len(routes)) * len(poolings)
    vectors = np.empty((n_rows, len(texts), lm.info.d_model), np.float32)
    room = Room(limits.batch_tokens)
    if finished is not None:
        finished.room = room
    done = 0
    for batch in batches(
        tokenized, lm.tokenizer.pad_token_id, limits.batch_tokens, device=lm.device
    ):
        compute = partial(_batch_in_parts, lm, batch, routes, poolings, room)
        rows = batch.rows.numpy(force=True)
        arrays = finished.chunk(chunk_file(done), len(rows), compute) if finished else compute()
        vectors[:, rows] = arrays["vectors"].swapaxes(0, 1)
        done += len(rows)
        progress(done, len(texts))
    return torch.from_numpy(vectors)


def _batch_in_parts(
    lm: LanguageModel,
    batch: TokenBatch,
    routes: Sequence[Route],
    poolings: Sequence[str],
    room: Room,
) -> Arrays:
    """The vectors of a batch, in the form that `FORMS` says; in parts where memory is short."""
    compute = partial(_batch_vectors, lm, routes, poolings)
    return {"vectors": np.concatenate([part for _, part in computed([batch], compute, room)])}


def _batch_vectors(
    lm: LanguageModel, routes: Sequence[Route], poolings: Sequence[str], batch: TokenBatch
) -> Float32[np.ndarray, "batch sets d_model"]:
    pools = [POOLINGS[pooling] for pooling in poolings]
    with torch.inference_mode():
        sets = [
            pool(states, batch).float().cpu()
            for states in final_states(lm, batch, routes)
            for pool in pools
        ]
    vectors = torch.stack(sets, dim=1)
    finite_or_refuse(vectors, "the embeddings", lm.info)
    return vectors.numpy()
