"""Similarity: cosines between vectors in any of the forms that an encoder returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def cosine_matrix(a: Any, b: Any) -> Float[Tensor, "n m"]:
    """Cosines of every row of `a` with every row of `b`: arrays, tensors or lists of either."""
    return unit_rows(a) @ unit_rows(b).T


def cosine_pairs(a: Any, b: Any) -> Float[Tensor, " n"]:
    """Cosines of matching rows of `a` and `b`."""
    return (unit_rows(a) * unit_rows(b)).sum(-1)


def unit_rows(vectors: Any) -> Float[Tensor, "n d"]:
    """Rows of unit length, float32; one vector is one row, and zeros stay zeros."""
    if not isinstance(vectors, Tensor):
        vectors = torch.as_tensor(np.asarray(vectors))
    return normalize(torch.atleast_2d(vectors).float(), dim=-1)
