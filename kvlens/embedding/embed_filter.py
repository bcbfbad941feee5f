"""Embed filter: the directions of hidden states that the unembedding tells apart middlingly.

No text is needed: the map follows from the model's weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.embedding.post import Post
from kvlens.models.dispatched import value_of
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder

BLOCK = 8192  # rows of the unembedding that are looked at at a time


def embed_filter(lm: LanguageModel, embedder: str = "", dimension: int | None = None) -> Post:
    """Keep the middle right singular vectors of the unembedding (EmbedFilter, arXiv:2606.07502).

    For vectors pooled from states after the final norm, which the unembedding reads.

    Args:
        lm: the model.
        embedder: see `Encoder.signature`.
        dimension: how many are kept; default half of the model's width. As many of larger singular
            values are left out as of smaller ones, one less if need be.

    Returns:
        The map to them, float32 ``[d_model, dimension]``.

    Raises:
        InputError: for a dimension above the model's width, and a model without an unembedding of
            that width.
    """
    d = lm.info.d_model
    kept = d // 2 or 1 if dimension is None else dimension
    if not 1 <= kept <= d:
        raise InputError(f"`dimension` of embed_filter lies in 1 to {d}, not {kept}")
    axes = _right_singular_vectors(unembedding(lm))
    first = (d - kept) // 2
    middle = axes[:, first : first + kept]
    return Post(
        kind="embed_filter",
        embedder=embedder,
        n=0,
        shrinkage=0.0,
        mean=np.zeros(d, np.float32),
        matrix=np.ascontiguousarray(middle, dtype=np.float32),
    )


def filter_of(encoder: Encoder, dimension: int | None = None) -> Post:
    """`embed_filter` for the vectors of an encoder; raises InputError where they are no states."""
    d = encoder.lm.info.d_model
    width = encoder.raw(["a"]).shape[1]
    if width != d:
        raise InputError(
            f"embed_filter is for states of {d} dimensions, "
            f"and the vectors of {encoder.method.name} have {width}"
        )
    return embed_filter(encoder.lm, encoder.signature, dimension)


def unembedding(lm: LanguageModel) -> Float[Tensor, "vocab d_model"]:
    """The matrix that makes logits of a state; raises InputError where there is none."""
    head = lm.hf.get_output_embeddings()
    weight = None if head is None else value_of(head, "weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != lm.info.d_model:
        raise InputError(f"{lm.info.name} has no unembedding of its own width to filter by")
    return weight


def _right_singular_vectors(matrix: Float[Tensor, "n d"]) -> Float[np.ndarray, "d d"]:
    """As columns, by descending singular value; by the eigenvectors of the Gram matrix."""
    d = matrix.shape[1]
    gram = torch.zeros((d, d), dtype=torch.float64)
    for rows in matrix.detach().split(BLOCK):
        block = rows.cpu().double()
        gram += block.T @ block
    return np.linalg.eigh(gram.numpy())[1][:, ::-1]
