"""Passes: tokenized texts through a method, batch by batch; it knows no text and no prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.methods.base import Method, embed_together
from kvlens.models.forward import finite_or_refuse
from kvlens.models.language_model import LanguageModel
from kvlens.models.short_memory import computed
from kvlens.store.progress import Progress
from kvlens.store.room import Room
from kvlens.texts.batches import batches
from kvlens.texts.tokens import TokenizedText


def each_once(
    texts: Sequence[str], embed: Callable[[list[str]], Float[Tensor, "distinct d"]]
) -> Float[Tensor, "n d"]:
    """Vectors of texts, in their order; equal texts get equal vectors.

    Args:
        texts: perhaps with repetitions.
        embed: makes the vectors of the distinct ones, in their order.
    """
    distinct = list(dict.fromkeys(texts))
    vectors = embed(distinct)
    row_of = {text: row for row, text in enumerate(distinct)}
    return vectors[[row_of[text] for text in texts]]


def embed_batches(
    lm: LanguageModel,
    method: Method,
    tokenized: Sequence[TokenizedText],
    room: Room,
    batch_size: int | None,
    progress: Progress,
) -> Float[Tensor, "n d"]:
    """Vectors of texts by one method, see `batches_together`."""
    (vectors,) = batches_together(lm, [method], tokenized, room, batch_size, progress)
    return vectors


def batches_together(
    lm: LanguageModel,
    methods: Sequence[Method],
    tokenized: Sequence[TokenizedText],
    room: Room,
    batch_size: int | None,
    progress: Progress,
) -> list[Float[Tensor, "n _"]]:
    """Vectors of texts; between its batches other threads may run the model.

    Args:
        lm: the model.
        methods: those of `Method.for_model`, all of the same `Method.pass_of`: a pass serves all.
        tokenized: at least one text.
        room: most padded tokens of a batch; they become fewer where memory is short.
        batch_size: most texts of a batch; None: any number.
        progress: called with (done, total) texts.

    Returns:
        float32, in the order of the texts: what each method gives by itself, to the bit.

    Raises:
        InputError: as `Method.embed`, and for NaN or infinity.
    """
    pad_id = lm.tokenizer.pad_token_id
    done = 0
    rows: list[Tensor] = []
    parts: list[list[Tensor]] = [[] for _ in methods]
    with torch.inference_mode():
        padded = batches(tokenized, pad_id, room.tokens, batch_size, device=lm.device)
        for batch, found in computed(padded, partial(embed_together, lm, methods), room):
            for part, vectors in zip(parts, found, strict=True):
                part.append(vectors.float())
            rows.append(batch.rows)
            done += len(batch.rows)
            progress(done, len(tokenized))
    order = torch.cat(rows).argsort()
    return [_in_order(lm, part, order) for part in parts]


def _in_order(lm: LanguageModel, parts: Sequence[Tensor], order: Tensor) -> Float[Tensor, "n d"]:
    vectors = torch.cat(list(parts))[order]
    finite_or_refuse(vectors, "the embeddings", lm.info)
    return vectors.clone()  # a normal tensor: inference tensors cannot be used in training
