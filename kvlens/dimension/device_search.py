"""Device search: the candidates of `search`, by products on an accelerator.

Products are float64, whatever a process has set for its float32 ones. Exact distances decide, and
are taken on the CPU: so a device changes how long a search takes, and no value.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvlens.dimension.cloud import Cloud, blocks
from kvlens.dimension.search import Block, Bounds, Candidates, Search
from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError

COLUMNS = 16384  # points of a product's other side: 256 MiB in float64


def a_device(name: str, value: Any) -> str:
    """The check of an argument: ``cpu``, or a CUDA device that is here."""
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise refusal(name, value, "cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise refusal(name, value, "cpu, cuda or cuda:0")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"`{name}` is {value}, but there is no CUDA here: leave it out")
    return str(device)


def search_on(device: str) -> Search:
    """The search whose products are taken on this device."""
    return partial(candidates_on, torch.device(device))


def candidates_on(
    device: torch.device, cloud: Cloud, m: int, of: Int[np.ndarray, " n"] | None
) -> Candidates:
    """As `kvlens.dimension.search.candidates`."""
    bounds = Bounds(cloud, np.float64)
    whose = np.arange(cloud.n) if of is None else of
    values = np.empty((len(whose), m))
    indices = np.empty((len(whose), m), np.int64)
    for part in blocks(len(whose)):
        nearest = _nearest(device, bounds, whose[part], m)
        values[part], indices[part] = (each.cpu().numpy() for each in nearest)
    return bounds.candidates(values, indices, whose)


def _nearest(
    device: torch.device, bounds: Bounds, of: Int[np.ndarray, " n"], m: int
) -> tuple[Float[Tensor, "n m"], Int[Tensor, "n m"]]:
    """The m smallest lower bounds of some points, and whose they are."""
    rows = _moved(device, bounds.block(of))
    values = torch.full((len(of), m), torch.inf, dtype=torch.float64, device=device)
    indices = torch.zeros((len(of), m), dtype=torch.int64, device=device)
    for part in blocks(bounds.cloud.n, COLUMNS):
        others = _moved(device, bounds.block(part))
        lower = rows[1][:, None] + others[1] - 2 * (rows[0] @ others[0].T)
        itself = np.flatnonzero((of >= part.start) & (of < part.stop))
        lower[torch.from_numpy(itself), torch.from_numpy(of[itself] - part.start)] = torch.inf
        numbers = torch.arange(part.start, part.stop, device=device).expand_as(lower)
        values, kept = torch.cat([values, lower], dim=1).topk(m, largest=False, sorted=False)
        indices = torch.cat([indices, numbers], dim=1).gather(1, kept)
    return values, indices


def _moved(device: torch.device, block: Block) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(block.points).to(device), torch.from_numpy(block.squares).to(device)
