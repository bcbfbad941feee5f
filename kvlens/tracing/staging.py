"""Staging: the rows of a batch on their way to the CPU, all of a pass in one copy.

A copy of every state by itself would make the CPU wait for the device once a layer and kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 256 * 2**20  # bytes that wait on a device; more are brought over in several copies

Write = Callable[[Tensor], None]
"""Takes rows as float32 on the CPU."""


class Staged(NamedTuple):
    """Rows that are on the device still, and what is done with them on the CPU."""

    rows: Tensor
    write: Write


class Staging:
    """Takes rows while a pass runs, and brings them over after it.

    Attributes:
        waits: whether rows of the CPU wait, too, as those of a device do.
    """

    def __init__(self, waits: bool = False):
        """Nothing is staged."""
        self.waits = waits
        self._staged: list[Staged] = []
        self._bytes = 0

    def add(self, rows: Tensor, write: Write) -> None:
        """Stage rows; what is on the CPU is written at once, since nothing is copied for it.

        Args:
            rows: of any shape and dtype.
            write: called with them, at once or by `flush`, in the order in which they came.

        Raises:
            InputError: as `write`.
        """
        if rows.device.type == "cpu" and not self.waits:
            write(rows.float())
            return
        kept = rows.to(torch.float32, copy=True)  # rows of a larger tensor would keep all of it
        self._staged.append(Staged(kept, write))
        self._bytes += kept.nbytes
        if self._bytes > MOST:
            self.flush()

    def flush(self) -> None:
        """Copy and write what is staged, a copy a device; raises InputError as the writers."""
        staged = self._staged
        self.clear()
        brought = _brought([each.rows for each in staged])
        for (rows, write), numbers in zip(staged, brought, strict=True):
            write(numbers.reshape(rows.shape))

    def clear(self) -> None:
        """Forget what is staged: of a pass that did not end."""
        self._staged = []
        self._bytes = 0


def _brought(tensors: list[Tensor]) -> list[Tensor]:
    """The numbers of tensors, in one axis, float32 on the CPU."""
    brought = [torch.empty(0)] * len(tensors)
    for device in {tensor.device for tensor in tensors}:
        places = [i for i, tensor in enumerate(tensors) if tensor.device == device]
        flat = torch.cat([tensors[i].reshape(-1) for i in places]).cpu()
        parts = flat.split([tensors[i].numel() for i in places])
        for i, part in zip(places, parts, strict=True):
            brought[i] = part
    return brought
