"""Slow dtypes: a CPU without instructions for half precision computes in it many times slower."""

from __future__ import annotations

import time

import torch

from kvlens.store.notices import notice

SLOW = 3.0  # times as long as in float32: worth a word
ROUNDS = 3
SHAPE = (64, 512, 512)  # rows, and the two sides of a weight: a millisecond in float32


def slowdown(dtype: torch.dtype) -> float:
    """How many times as long as in float32 a product of matrices takes on this CPU.

    Args:
        dtype: a floating one.

    Returns:
        The ratio of the shortest times of a few rounds.
    """
    return _seconds(dtype) / _seconds(torch.float32)


def tell_of_slow_dtype(dtype: torch.dtype | None, device: torch.device) -> None:
    """Say it where a dtype is slow on the CPU by lack of instructions.

    Args:
        dtype: of the weights; None: the checkpoint's own, which nobody asked for.
        device: where they are.
    """
    if device.type != "cpu" or dtype not in (torch.float16, torch.bfloat16):
        return
    ratio = slowdown(dtype)
    if ratio > SLOW:
        name = str(dtype).removeprefix("torch.")
        notice(f"{name} is {ratio:.0f} times slower than float32 on this CPU: give another `dtype`")


def _seconds(dtype: torch.dtype) -> float:
    n_rows, d_in, d_out = SHAPE
    rows = torch.ones(n_rows, d_in, dtype=dtype)
    weight = torch.ones(d_out, d_in, dtype=dtype)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        times.append(time.perf_counter() - begun)
    return min(times)
