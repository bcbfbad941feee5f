"""Sweep vectors: texts embedded by many routes, in one pass over the texts.

1. per batch one plain forward pass, whose hidden states at the block boundaries are kept;
2. for every route only the blocks from its lowest one on are run again, re-routed;
3. what comes out is pooled, and each pair of texts has a cosine.

It does not know what the cosines are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from kvlens.rerouting.partial_pass import final_states
from kvlens.rerouting.prefix import check_architecture
from kvlens.store.progress import Progress, silent
from kvlens.texts.limits import Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import Prompt
from kvlens.texts.tokens import batches, tokenize

DIGITS = 7  # of a cosine: what float32 holds


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
) -> Float64[np.ndarray, "sets n_pairs"]:
    """The cosine of each pair of texts: on the plain model, then by each route.

    Args:
        lm: the model.
        pairs: of texts; equal texts are embedded once.
        routes: what is re-routed.
        embedding: how texts become vectors.
        progress: called with (texts done, texts).

    Returns:
        Cosines, rounded to 7 digits; row 0 is the plain model.

    Raises:
        InputError: as `route_vectors`.
    """
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    vectors = normalize(route_vectors(lm, texts, routes, embedding, progress), dim=-1)
    row_of = {text: row for row, text in enumerate(texts)}
    first = vectors[:, [row_of[text] for text in pairs.first]]
    second = vectors[:, [row_of[text] for text in pairs.second]]
    return np.round((first * second).sum(-1).double().numpy(), DIGITS)


def route_vectors(
    lm: LanguageModel,
    texts: Sequence[str],
    routes: Sequence[Route],
    embedding: Embedding,
    progress: Progress | None = None,
) -> Float32[Tensor, "sets n_texts d_model"]:
    """Vectors of `texts`: of the plain model, then by each route.

    Args:
        lm: the model.
        texts: the texts.
        routes: what is re-routed.
        embedding: how texts become vectors.
        progress: called with (texts done, texts).

    Returns:
        Vectors on the CPU, as pooled; row 0 is the plain model.

    Raises:
        InputError: as `reroute`, for an unknown pooling, and on NaN.
    """
    check_architecture(lm)
    check_pooling(embedding.pooling)
    progress = progress or silent
    pool = POOLINGS[embedding.pooling]
    limits = embedding.limits
    most = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts, embedding.prompt, most, limits.strict)
    shape = (1 + len(routes), len(texts), lm.info.d_model)
    vectors = torch.empty(shape, dtype=torch.float32)  # the default may be that of a loading model
    done = 0
    with torch.inference_mode():
        for batch in batches(
            tokenized, lm.tokenizer.pad_token_id, limits.batch_tokens, device=lm.device
        ):
            rows = batch.rows.cpu()
            for number, states in enumerate(final_states(lm, batch, routes)):
                vectors[number, rows] = pool(states, batch).float().cpu()
            done += len(rows)
            progress(done, len(texts))
    finite_or_refuse(vectors, "the embeddings", lm.info)
    return vectors
