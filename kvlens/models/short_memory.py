"""Short memory: batches that do not fit are halved, and so are as large ones after them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from kvlens.store.errors import InputError
from kvlens.store.notices import notice
from kvlens.texts.batches import TokenBatch

CPU_SHORTAGE = "DefaultCPUAllocator"
"""What torch says when the CPU's memory is short, which has no class of its own."""

Result = TypeVar("Result")


def computed(
    batches: Iterable[TokenBatch], compute: Callable[[TokenBatch], Result]
) -> Iterator[tuple[TokenBatch, Result]]:
    """What comes out of every batch, in parts where it is too large for the memory there is.

    Args:
        batches: of texts.
        compute: may be called again on parts of a batch for which memory was short.

    Yields:
        Batches, or parts of them, with their results.

    Raises:
        InputError: for a single text that does not fit.
    """
    most = math.inf
    for batch in batches:
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            result = None if _is_too_large(part, most) else _if_it_fits(compute, part)
            if result is not None:
                yield part, result[0]
                continue
            if part.ids.numel() <= most:
                most = part.ids.numel() / 2
                _tell(part)
            waiting += reversed(part.halves())


def _is_too_large(part: TokenBatch, most: float) -> bool:
    return part.ids.numel() > most and len(part.rows) > 1


def _if_it_fits(compute: Callable[[TokenBatch], Result], part: TokenBatch) -> tuple[Result] | None:
    """The result, in a tuple; None where memory was short."""
    try:
        return (compute(part),)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        if len(part.rows) == 1:
            raise InputError(
                f"memory is short for a single text of {part.ids.shape[1]} tokens: "
                "give a lower `max_length`, or a model of fewer or smaller weights"
            ) from error
    # What the broken pass held is free only here, where its traceback is gone.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_shortage(error: BaseException) -> bool:
    """Whether torch raised this because memory was short."""
    return isinstance(error, torch.OutOfMemoryError) or CPU_SHORTAGE in str(error)


def _tell(part: TokenBatch) -> None:
    n_tokens = part.ids.numel()
    notice(
        f"memory is short for a batch of {n_tokens} tokens: from here on batches have "
        f"{n_tokens // 2} at most; `batch_tokens` sets it"
    )
