"""Cache argument: what attention modules call their KV cache, and what poses as one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import Module

from kvlens.store.errors import InputError

# What attention modules call their KV cache argument.
CACHE_NAMES = ("past_key_values", "layer_past", "past_key_value")


@functools.cache
def signature_of(forward: Callable[..., Any]) -> inspect.Signature:
    """The signature of a class' forward; reading it costs, and every pass asks."""
    return inspect.signature(forward)


def cache_name_of(module: Module) -> str | None:
    """What a module calls its KV cache; None for one that takes none, or no hidden states."""
    parameters = signature_of(type(module).forward).parameters
    if "hidden_states" not in parameters:
        return None
    return next((name for name in CACHE_NAMES if name in parameters), None)


class Unserved(InputError, AttributeError):
    """What stands in for a KV cache is asked for something that it does not have."""


class StandIn:
    """Poses as an empty KV cache."""

    def __getattr__(self, name: str) -> Any:
        raise Unserved(f"its attention asks a KV cache for more than keys and values ({name})")

    def get_seq_length(self, *where: Any) -> int:
        """How many tokens it holds before the pass: none."""
        return 0


class NotingCache(StandIn):
    """Tells what an attention module puts into a KV cache."""

    def __init__(self, note: Callable[[Tensor, Tensor], None]):
        """A cache that calls `note` with keys and values."""
        self._note = note

    def update(self, keys: Tensor, values: Tensor, *where: Any, **options: Any) -> Any:
        """What an attention module calls."""
        self._note(keys, values)
        return keys, values
