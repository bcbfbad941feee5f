"""Look Both Ways: the top layers see both directions, and lose the sink at position 0."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral

from kvlens.layers.route import Route
from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.both_ways import both_ways
from kvlens.rerouting.door import check_route
from kvlens.store.arguments import real_number, whole_number
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch

Count = int | float
"""So many layers, or a share of all."""


@dataclass(frozen=True)
class LookBothWays(Method):
    """Look Both Ways and No Sink, ACL 2025: a mask edit, one pass, mean pooling, raw text.

    In the top layers every token sees those after it, too; in the topmost of these no token but
    the first sees the first, which would serve as the attention sink. The first 1 to 3 layers have
    to stay causal. The defaults, shares of the depth, lie where TinyLlama-1.1B (22 layers) gains:
    41 with all layers causal, 44.5 with the top 9 to 19 opened, 47.8 without the sink in the top 7
    to 10 (read off the paper's figures). Of hybrids, layers that attend are opened.
    A model whose attention does more than its mask says is refused, as re-routing refuses it.

    Attributes:
        opened: how many top layers see both directions.
        sinkless: in how many of these no token but the first sees the first.
    """

    name = "look_both_ways"
    paper = "ACL 2025, long 1113"
    pooling: str = "mean"
    opened: Count = 0.6
    sinkless: Count = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("opened", "sinkless"):
            object.__setattr__(self, name, _count_argument(name, getattr(self, name)))

    def for_model(self, lm: LanguageModel) -> LookBothWays:
        """The method with its shares as numbers of layers."""
        n = lm.info.n_layers
        opened = _layers_of(self.opened, n)
        sinkless = _layers_of(self.sinkless, n)
        if not sinkless <= opened <= n:
            raise InputError(
                f"look_both_ways needs sinkless <= opened <= {n} layers, not {sinkless}, {opened}"
            )
        # Where re-routing is proven exact, attention heeds an edited mask, and nothing but it.
        check_route(lm, Route.of(lm.info, self._top(lm, opened)))
        return replace(super().for_model(lm), opened=opened, sinkless=sinkless)

    def around_key(self) -> Hashable:
        """Which layers are opened; nothing where none is."""
        return (type(self), self.opened, self.sinkless) if self.opened else None

    @contextlib.contextmanager
    def around(self, lm: LanguageModel, batch: TokenBatch) -> Iterator[TokenBatch]:
        """The masks of the top layers are opened."""
        with both_ways(lm, self._top(lm, self.opened), self._top(lm, self.sinkless), batch):
            yield batch

    def _top(self, lm: LanguageModel, count: Count) -> list[int]:
        """The topmost blocks, as far as they attend."""
        n = lm.info.n_layers
        return [layer for layer in lm.info.layers_with_keys() if layer >= n - _layers_of(count, n)]


def _count_argument(name: str, value: object) -> Count:
    """So many layers, or a share of all; raises InputError for anything else."""
    if isinstance(value, Integral):
        return whole_number(name, value, least=0)
    return real_number(name, value, least=0, most=1)


def _layers_of(count: Count, n_layers: int) -> int:
    return round(count * n_layers) if isinstance(count, float) else count
