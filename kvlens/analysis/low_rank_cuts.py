"""Low-rank cuts: texts embedded with weights of K and V at lower rank, one by one and together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import cosine_similarity

from kvlens.analysis.kv_projections import KVProjection, kv_projections
from kvlens.analysis.low_rank import Condition, Cut, LowRank, Schedule, Way
from kvlens.methods.base import check_pooling
from kvlens.methods.pooling import POOLINGS
from kvlens.models.forward import finite_or_refuse, run_base
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.models.short_memory import computed
from kvlens.rerouting.partial_pass import first_block, run_plain
from kvlens.store.arguments import list_argument, real_number
from kvlens.store.checking import arguments, function, optional, real, text
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import current_command, versions
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize

SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75)
THRESHOLD = 0.99
SLOPE = 0.5  # how far a progressive schedule's ends lie above and below its share, of that share

Ranks = Mapping[KVProjection, int]
"""Projection -> the rank that it is cut to."""


class LowRankOptions(LimitOptions, total=False):
    """Further keywords of `low_rank`."""

    progress: Progress | None


@arguments(
    lm=a_model,
    pooling=text,
    threshold=real(least=0, most=1),
    progress=optional(function),
)
def low_rank(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    shares: Sequence[float] = SHARES,
    threshold: float = THRESHOLD,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    pooling: str = "hybrid",
    **options: Unpack[LowRankOptions],
) -> LowRank:
    """Cut W_K and W_V to lower ranks, and see how far the plain model's embeddings move.

    Each matrix alone, all KV heads side by side; then all at once, progressively (after LoRC,
    arXiv:2410.03111) and beside it by one share that keeps as much. Biases stay, no weight is
    changed.

    Args:
        lm: the model.
        texts: without their prompt; every matrix and share costs a pass from its layer on.
        shares: of the full rank, above 0 and below 1; the ranks are rounded, and at least 1.
        threshold: the mean cosine that counts as unmoved.
        prompt: its name, a template, or the prompt itself.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
        **options: `max_length`, `strict`, `batch_tokens`: see `Limits`. `progress`: called with
            (passes done, passes).

    Returns:
        Cosines by matrix and share, and those of the schedules.

    Raises:
        InputError: for other shares, an unknown pooling, and a model whose keys or values are not
            the outputs of one linear module a layer.
    """
    progress = options.pop("progress", None) or silent
    limits = Limits.of(options)
    check_pooling(pooling)
    wanted = _shares(shares)
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    projections = kv_projections(lm)
    most = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, most, limits.strict)
    plan = _Plan.of(lm, projections, wanted)
    found: list[Float[np.ndarray, "cuts n"]] = []
    pad = lm.tokenizer.pad_token_id
    every = list(batches(tokenized, pad, limits.batch_tokens, device=lm.device))
    room = Room(limits.batch_tokens)
    for number, batch in enumerate(every):
        step = partial(_told, progress, number * len(plan.all), len(every) * len(plan.all))
        moved = partial(_cosines, lm, plan.all, pooling, step)
        found += [cosines for _, cosines in computed([batch], moved, room)]
    cosines = np.concatenate(found, axis=1)
    return LowRank(
        model=lm.info,
        prompt=prompt,
        pooling=pooling,
        texts=texts.info(),
        threshold=threshold,
        cuts=tuple(plan.cuts(cosines)),
        conditions=plan.conditions,
        schedules=tuple(plan.scheduled(cosines)),
        versions=versions(),
        command=current_command(),
    )


def progressive_shares(conditions: Sequence[float], least: float, most: float) -> tuple[float, ...]:
    """The share of the rank that each layer keeps, by what its error would pass through.

    The cumulative condition number of a layer is the product of those of W_K and W_V of that layer
    and of all above it (LoRC, arXiv:2410.03111, "progressive compression"). Its logarithm falls
    with depth; the layer where it is largest keeps `most`, that where it is smallest `least`, and
    between them the share goes by the logarithm.

    Args:
        conditions: of each layer, W_K's times W_V's, the lowest layer first.
        least: share of the layer that is cut most.
        most: share of the layer that is cut least.

    Returns:
        A share a layer.
    """
    logs = np.cumsum(np.log(conditions)[::-1])[::-1]
    width = logs.max() - logs.min()
    if width == 0:
        return (most,) * len(logs)
    depth = (logs.max() - logs) / width
    return tuple((most - (most - least) * depth).tolist())


def _shares(given: Any) -> list[float]:
    listed = list_argument("shares", given, "shares")
    shares = sorted({real_number("shares", share) for share in listed})
    if not shares or not (shares[0] > 0 and shares[-1] < 1):
        raise InputError("`shares` are of the full rank: give some above 0 and below 1")
    return shares


def _rank(share: float, full_rank: int) -> int:
    return max(1, round(share * full_rank))


@dataclass(frozen=True)
class _Plan:
    """All that is cut.

    Attributes:
        projections: K, then V, layers ascending.
        singles: a projection and its rank each.
        schedules: way, shares by layer.
        conditions: of the projections.
    """

    projections: Sequence[KVProjection]
    singles: list[tuple[KVProjection, int]]
    schedules: list[tuple[Way, tuple[float, ...]]]
    conditions: tuple[Condition, ...] = field(repr=False)

    @classmethod
    def of(
        cls, lm: LanguageModel, projections: Sequence[KVProjection], shares: Sequence[float]
    ) -> _Plan:
        """Every projection at every share, and every share as the middle of a schedule."""
        with torch.inference_mode(), lm.turn("measurement"):
            numbers = [each.condition for each in projections]
        of_layers = [math.prod(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
        singles = []
        for each in projections:
            ranks = sorted({_rank(share, each.full_rank) for share in shares} - {each.full_rank})
            singles += [(each, rank) for rank in ranks]
        schedules: list[tuple[Way, tuple[float, ...]]] = []
        for share in shares:
            least, most = (1 - SLOPE) * share, min((1 + SLOPE) * share, 1.0)
            progressive = progressive_shares(of_layers, least, most)
            mean = float(np.mean(progressive))
            schedules.append(("progressive", progressive))
            schedules.append(("uniform", (mean,) * len(progressive)))
        conditions = tuple(
            Condition(kind=each.kind, layer=each.layer, number=number)
            for each, number in zip(projections, numbers, strict=True)
        )
        return cls(projections, singles, schedules, conditions)

    @property
    def all(self) -> list[Ranks]:
        """What is cut in each pass."""
        return [{each: rank} for each, rank in self.singles] + [
            self._ranks(shares) for _, shares in self.schedules
        ]

    def _ranks(self, shares: Sequence[float]) -> Ranks:
        twice = [share for share in shares for _ in "kv"]
        both = zip(self.projections, twice, strict=True)
        return {each: _rank(share, each.full_rank) for each, share in both}

    def cuts(self, cosines: Float[np.ndarray, "cuts n"]) -> Iterator[Cut]:
        """The results of single projections."""
        for (each, rank), of_cut in zip(self.singles, cosines, strict=False):
            yield Cut(
                kind=each.kind,
                layer=each.layer,
                rank=rank,
                full_rank=each.full_rank,
                **_moved(of_cut),
            )

    def scheduled(self, cosines: Float[np.ndarray, "cuts n"]) -> Iterator[Schedule]:
        """The results of schedules."""
        total = sum(each.full_rank for each in self.projections)
        after = cosines[len(self.singles) :]
        for (way, shares), of_cut in zip(self.schedules, after, strict=True):
            kept = sum(self._ranks(shares).values()) / total
            yield Schedule(way=way, shares=shares, kept=kept, **_moved(of_cut))


def _moved(cosines: Float[np.ndarray, " n"]) -> dict[str, float]:
    spread = float(cosines.std(ddof=1)) if len(cosines) > 1 else 0.0
    return {"cosine": float(cosines.mean()), "spread": spread}


def _told(progress: Progress, done: int, total: int, more: int) -> None:
    progress(done + more, total)


def _cosines(
    lm: LanguageModel,
    cuts: Sequence[Ranks],
    pooling: str,
    step: Any,
    batch: TokenBatch,
) -> Float[np.ndarray, "cuts batch"]:
    """The cosine of each text's embedding with that of whole weights, for each cut."""
    found = []
    lowest = [first_block(lm, min(each.layer for each in ranks)) for ranks in cuts]
    pool = POOLINGS[pooling]
    with torch.inference_mode():
        plain = run_plain(lm, batch, lowest)
        whole = pool(plain.states, batch).double()
    for done, (first, ranks) in enumerate(zip(lowest, cuts, strict=True), 1):
        with torch.inference_mode(), lm.turn("measurement") as turn:
            plain.stand_below(turn, lm, first)
            for projection, rank in ranks.items():
                projection.cut(turn, rank)
            vectors = pool(run_base(lm, batch).last_hidden_state, batch).double()
        finite_or_refuse(vectors, "the embeddings", lm.info)
        step(done)
        found.append(cosine_similarity(vectors, whole, dim=-1).cpu().numpy())
    return np.stack(found)
