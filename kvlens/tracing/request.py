"""Request: which states of a model are recorded; a plain value that is checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from kvlens.models.info import ModelInfo
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.tracing.kinds import KINDS, OF_ANY_TOKEN, OF_ATTENTION, Points
from kvlens.tracing.spans import LAST, further_tokens


@dataclass(frozen=True)
class Request:
    """What `record` keeps.

    Attributes:
        points: which hidden states of a text: the ``last`` token's, the ``mean`` over real tokens,
            or ``all`` real tokens'.
        keep: which of `KINDS`.
        layers: block indices, ascending.
        patterns: whether attention weights are kept too.
        tokens: other tokens whose keys and values are kept beside the final one's, see
            `kvlens.tracing.spans`.
        position_zero: whether the length of position 0's state is kept too, see `PositionZero`.
    """

    points: Points
    keep: tuple[str, ...]
    layers: tuple[int, ...]
    patterns: bool = False
    position_zero: bool = False
    tokens: tuple[str, ...] = ()

    @property
    def of_attention(self) -> frozenset[str]:
        """The kinds that are read at the raw model's attention modules alone."""
        return frozenset(self.keep).intersection(OF_ATTENTION)

    @property
    def of_spans(self) -> frozenset[str]:
        """The kinds that are kept of other tokens, too."""
        return frozenset(self.keep).intersection(OF_ANY_TOKEN if self.tokens else ())

    @property
    def raw_alone(self) -> str:
        """What is read in raw transformers alone, in words; empty where nothing is."""
        others = [f"tokens {', '.join(self.tokens)}"] if self.tokens else []
        return ", ".join([*sorted(self.of_attention), *others])

    @classmethod
    def of(
        cls,
        info: ModelInfo,
        points: Points,
        keep: Sequence[str],
        layers: Sequence[int] | None,
        patterns: bool,
        tokens: Sequence[str] = (LAST,),
    ) -> Request:
        """A request that a model can answer.

        Args:
            info: of the model.
            points: see above.
            keep: see above.
            layers: block indices in any order; None: all.
            patterns: see above.
            tokens: see above; ``last`` may be among them.

        Returns:
            The request.

        Raises:
            InputError: for unknown points or kinds, no layers, and layers outside the model.
        """
        if points not in get_args(Points):
            raise InputError(f"unknown points {points!r}: give last, mean or all")
        unknown = sorted(set(keep) - set(KINDS))
        if unknown:
            raise InputError(f"cannot record {unknown}: give some of {', '.join(KINDS)}")
        wanted = range(info.n_layers) if layers is None else layers
        ascending = tuple(sorted(set(wanted)))
        outside = [layer for layer in ascending if not 0 <= layer < info.n_layers]
        if not ascending or outside:
            last = info.n_layers - 1
            raise InputError(
                f"layers must lie in 0 to {last} for {info.name}, got {shown(list(ascending))}"
            )
        # A jump is between neighbouring blocks, so that all of them have to run.
        every_layer = len(ascending) == info.n_layers
        further = further_tokens(tokens)
        if further and not set(keep).intersection(OF_ANY_TOKEN):
            raise InputError("other `tokens` are kept of k, k_pre and v: add one to `keep`")
        kinds = tuple(dict.fromkeys(keep))
        return cls(points, kinds, ascending, patterns, every_layer, further)
