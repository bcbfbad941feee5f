"""Passes: tokenized texts through a method, batch by batch; it knows no text and no prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.methods.base import Method
from kvlens.models.forward import finite_or_refuse
from kvlens.models.language_model import LanguageModel
from kvlens.store.progress import Progress
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
    batch_tokens: int,
    batch_size: int | None,
    progress: Progress,
) -> Float[Tensor, "n d"]:
    """Vectors of texts; between its batches other threads may run the model.

    Args:
        lm: the model.
        method: that of `Method.for_model`.
        tokenized: at least one text.
        batch_tokens: most padded tokens of a batch.
        batch_size: most texts of a batch; None: any number.
        progress: called with (done, total) texts.

    Returns:
        float32, in the order of the texts.

    Raises:
        InputError: as `Method.embed`, and for NaN or infinity.
    """
    pad_id = lm.tokenizer.pad_token_id
    done = 0
    rows: list[Tensor] = []
    parts: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches(tokenized, pad_id, batch_tokens, batch_size, device=lm.device):
            parts.append(method.embed(lm, batch).float())
            rows.append(batch.rows)
            done += len(batch.rows)
            progress(done, len(tokenized))
    vectors = torch.cat(parts)[torch.cat(rows).argsort()]
    finite_or_refuse(vectors, "the embeddings", lm.info)
    return vectors.clone()  # a normal tensor: inference tensors cannot be used in training
