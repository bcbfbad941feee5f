"""Profile options: what `kvlens profile` records, measures and selects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kvlens.cli.values import Layers, Names
from kvlens.layers.rules import RULES


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is recorded and measured.

    Attributes:
        points: which hidden states
        states: what to measure
        estimators: of scikit-dimension, comma-separated; the first one selects the layers
        draws: random halves of the texts, which tell how stable the choice of layers is
        save_trace: keep the recorded K, V and hidden states too
        shards: record into this folder, shard by shard, as `kvlens record` does; what a stopped
            profile has left there is gone on with
    """

    points: Literal["last", "mean", "all"] = "last"
    states: Literal["hidden", "k", "k_pre", "v", "kv", "q", "z", "attn_out"] = "hidden"
    estimators: Names = ("twonn", "mle")
    draws: int = 50
    save_trace: bool = False
    shards: Path | None = None

    @property
    def kept(self) -> tuple[str, ...]:
        """The kinds of states that the trace has to hold."""
        from kvlens.tracing.kinds import KEEP

        if self.save_trace:
            return KEEP
        measured = ("k", "v") if self.states == "kv" else (self.states,)
        return tuple(dict.fromkeys([*measured, "k_pre", "v"]))  # the latter for the static prefix


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """How the layers are selected.

    Attributes:
        rule: its name
        window: window, as a share of the layers
        skip_early: share of early layers that rules which rank leave out
        layers: layers for --rule explicit, such as 7-10 or 7,9
        queries: which tokens see the prefix; shielded: all but position 0, where attention sinks
        readout: read hidden states after this block, an index or a share [default: the last]
    """

    rule: Annotated[str, Parameter(help=", ".join(RULES))] = "paper"
    window: float = 0.10
    skip_early: float = 0.20
    layers: Layers | None = None
    queries: Literal["all", "text", "prompt", "shielded"] = "all"
    readout: int | float | None = None
