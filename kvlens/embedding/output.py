"""Output: the form in which an encoder returns vectors, as sentence-transformers names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kvlens.store.errors import InputError


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
        at_least_one("truncate_dim", self.truncate_dim)

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


def at_least_one(name: str, value: int | None) -> None:
    """Raise InputError for a parameter below 1; None is no value."""
    if value is not None and value < 1:
        raise InputError(f"`{name}` is {value}; it must be at least 1")
