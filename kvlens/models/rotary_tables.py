"""Rotary tables: the cosines and sines that an attention module is given, cut, joined and replaced.

They come in the model's own form, two tensors or one of complex numbers, and stay in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

Tables = Tensor | tuple[Tensor, Tensor]
"""Cosines and sines ``[batch, seq_len, rotary_dim]``, or complex numbers of half the width."""


def map_tables(change: Callable[[Tensor], Tensor], tables: Tables) -> Tables:
    """Rotary tables, each changed."""
    if isinstance(tables, Tensor):
        return change(tables)
    cos, sin = tables
    return change(cos), change(sin)


def join_tables(first: Tables, then: Tables) -> Tables:
    """The tables of some tokens and of those after them, for as many rows as `first` has."""
    if isinstance(first, Tensor) or isinstance(then, Tensor):
        return _join(first, then)
    return _join(first[0], then[0]), _join(first[1], then[1])


def _join(first: Any, then: Any) -> Tensor:
    seq_len, width = then.shape[-2:]
    return torch.cat([first, then.expand(*first.shape[:-2], seq_len, width)], dim=-2)


def turned_tables(tables: Tables, cosine: float, sine: float) -> Tables:
    """Tables of the same shape that rotate every pair by one angle.

    Args:
        tables: of a module.
        cosine: of the angle.
        sine: of the angle.

    Returns:
        Theirs.
    """
    if isinstance(tables, Tensor):
        return torch.full_like(tables, complex(cosine, sine))
    cos, sin = tables
    return torch.full_like(cos, cosine), torch.full_like(sin, sine)


def unrotating(tables: Tables) -> Tables:
    """Tables that rotate nothing."""
    return turned_tables(tables, 1.0, 0.0)


def turning_part(moved: Int[Tensor, " moved"], tables: Tables | None, d_key: int) -> slice:
    """Which dimensions of a key turn; a norm's weights may hold some of them at zero.

    Args:
        moved: those that were seen to turn, ascending, at least one.
        tables: of the module.
        d_key: how many dimensions there are.

    Returns:
        As many as the tables say, with those that were seen; where tables say nothing, the span of
        those that were seen.
    """
    first, last = int(moved[0]), int(moved[-1])
    span = last - first + 1
    widths = (width for width in _widths(tables) if span <= width <= d_key)
    width = next(widths, span)
    start = 0 if last < width else min(first, d_key - width)
    return slice(start, start + width)


def _widths(tables: Tables | None) -> tuple[int, ...]:
    """How many dimensions turn by tables, which may say it of one of each pair only."""
    if tables is None:
        return ()
    table = tables if isinstance(tables, Tensor) else tables[0]
    return table.shape[-1], 2 * table.shape[-1]


def of_tokens(
    table: Shaped[Tensor, "*more rows seq_len width"],
    row: Int[Tensor, " batch"],
    index: Int[Tensor, " batch"],
) -> Shaped[Tensor, "*more batch 1 width"]:
    """One token of each row."""
    *more, _, seq_len, width = table.shape
    return table.expand(*more, len(row), seq_len, width)[..., row, index, :].unsqueeze(-2)


def as_many(origin: Tables, tables: Tables) -> Tables:
    """The tables of position 0 for as many rows and tokens."""
    like = tables if isinstance(tables, Tensor) else tables[0]
    return map_tables(lambda table: table.expand_as(like), origin)
