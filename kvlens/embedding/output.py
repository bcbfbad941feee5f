"""Output: the form in which an encoder returns vectors, as sentence-transformers names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kvlens.store.arguments import flag_argument, whole_number


class OutputOptions(TypedDict, total=False):
    """The keywords by which `Encoder.encode` takes an `Output`."""

    convert_to_numpy: bool
    convert_to_tensor: bool
    normalize_embeddings: bool
    truncate_dim: int | None


@dataclass(frozen=True)
class Output:
    """What is done to vectors last.

    Attributes:
        convert_to_numpy: an array; else a list of tensors.
        convert_to_tensor: one tensor; goes before `convert_to_numpy`.
        normalize_embeddings: to unit length, after the truncation.
        truncate_dim: keep so many leading dimensions.
    """

    convert_to_numpy: bool = True
    convert_to_tensor: bool = False
    normalize_embeddings: bool = False
    truncate_dim: int | None = None

    def __post_init__(self) -> None:
        for name in ("convert_to_numpy", "convert_to_tensor", "normalize_embeddings"):
            object.__setattr__(self, name, flag_argument(name, getattr(self, name)))
        if self.truncate_dim is not None:
            n = whole_number("truncate_dim", self.truncate_dim, least=1)
            object.__setattr__(self, "truncate_dim", n)

    def convert(
        self, vectors: Float[Tensor, "n d"], single: bool
    ) -> np.ndarray | Tensor | list[Tensor]:
        """The vectors in the form that was asked for; of a `single` text its one vector."""
        if self.convert_to_tensor:
            return vectors[0] if single else vectors
        if self.convert_to_numpy:
            array = vectors.numpy(force=True)
            return array[0] if single else array
        return vectors[0] if single else list(vectors)
