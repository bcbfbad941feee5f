"""Short memory: batches that do not fit are halved, and so are as large ones after them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from kvlens.store.errors import InputError
from kvlens.store.notices import notice
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch

CPU_SHORTAGE = "DefaultCPUAllocator"
"""What torch says when the CPU's memory is short, which has no class of its own."""

Result = TypeVar("Result")


def computed(
    batches: Iterable[TokenBatch], compute: Callable[[TokenBatch], Result], room: Room
) -> Iterator[tuple[TokenBatch, Result]]:
    """What comes out of every batch, in parts where it is too large for the memory there is.

    Args:
        batches: of texts.
        compute: may be called again on parts of a batch for which memory was short.
        room: how large batches may be; it shrinks where memory is short.

    Yields:
        Batches, or parts of them, with their results.

    Raises:
        InputError: for a single text that does not fit.
    """
    for batch in batches:
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            result = None if _is_too_large(part, room) else _if_it_fits(compute, part)
            if result is not None:
                yield part, result[0]
                continue
            if not _is_too_large(part, room):
                room.tokens = min(room.tokens, part.ids.numel()) // 2
                _tell_once(part, room)
            waiting += reversed(part.halves())


def _is_too_large(part: TokenBatch, room: Room) -> bool:
    return part.ids.numel() > room.tokens and len(part.rows) > 1


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


def _tell_once(part: TokenBatch, room: Room) -> None:
    if room.is_told:
        return
    room.is_told = True
    notice(
        f"memory is short for a batch of {part.ids.numel()} tokens: batches are halved from here "
        "on, until they fit; `batch_tokens` sets how large they are"
    )
