"""Readout: the block after which a method reads its hidden states."""

from __future__ import annotations

from numbers import Integral, Real

from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError

LAST = -1
"""The last block."""

Readout = int | float
"""A block's index, from the end where it is negative; or a share of the blocks."""


def readout_argument(name: str, value: object) -> Readout:
    """A readout.

    Args:
        name: of the parameter, for the message.
        value: a whole number, Python's or numpy's; or a share above 0, up to 1.

    Returns:
        Python's own number.

    Raises:
        InputError: for anything else.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and 0 < float(value) <= 1 and not isinstance(value, bool):
        return float(value)
    wanted = "a block's index (-1: the last), nor a share of the blocks such as 0.7"
    raise refusal(name, value, wanted)


def block_of(readout: Readout, n_layers: int) -> int:
    """The block that is read.

    Args:
        readout: as `readout_argument` gives it; a share is rounded to blocks, at least one.
        n_layers: of the model.

    Returns:
        Its 0-based index; `LAST` for the last one, however it was asked for.

    Raises:
        InputError: for a block outside the model.
    """
    if isinstance(readout, float):
        block = max(round(readout * n_layers), 1) - 1
    else:
        block = readout + n_layers if readout < 0 else readout
    if not 0 <= block < n_layers:
        raise InputError(
            f"`readout` is {readout}; the blocks are 0 to {n_layers - 1}, or -1 for the last"
        )
    return LAST if block == n_layers - 1 else block
