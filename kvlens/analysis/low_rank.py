"""Low rank: how far the weights of K and V can be cut before the embedding moves: a result."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat, model_validator

from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count, Size, within
from kvlens.store.facts import printed_html, text_of_lines
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

Share = Annotated[float, within(0, 1)]
Cosine = Annotated[FiniteFloat, within(-1.001, 1.001)]
Way = Literal["progressive", "uniform"]


class Moved(Record):
    """Embeddings with cut weights, beside those without.

    Attributes:
        cosine: of a text's two embeddings, mean over texts.
        spread: its standard deviation (ddof 1); 0 for one text.
    """

    cosine: Cosine
    spread: Annotated[float, within(0, 2)]


class Cut(Moved):
    """One weight matrix at one rank, all others whole.

    Attributes:
        kind: k or v.
        layer: block index.
        rank: that was kept.
        full_rank: that the matrix can have.
    """

    kind: Literal["k", "v"]
    layer: Count
    rank: Size
    full_rank: Size

    @property
    def share(self) -> float:
        """Of the full rank."""
        return self.rank / self.full_rank


class Condition(Record):
    """How uneven the singular values of one weight matrix are.

    Attributes:
        kind: k or v.
        layer: block index.
        number: the largest over the smallest that is not 0.
    """

    kind: Literal["k", "v"]
    layer: Count
    number: Annotated[FiniteFloat, within(1, 1e300)]


class Schedule(Moved):
    """All weight matrices cut at once.

    Attributes:
        way: ``progressive``: less in lower layers, by condition numbers, see `progressive_shares`;
            ``uniform``: the same share everywhere.
        shares: of the full rank, one a layer that has keys, K and V alike.
        kept: share of all ranks together.
    """

    way: Way
    shares: tuple[Share, ...]
    kept: Share


class LowRank(JsonArtifact):
    """How far W_K and W_V can be cut before the embedding moves; one JSON file.

    Attributes:
        model: whose weights they are.
        prompt: around every text.
        pooling: from the plain model's hidden states to a vector.
        texts: those that were embedded.
        threshold: the mean cosine that counts as unmoved.
        cuts: by layer, K before V, the lowest rank first.
        conditions: by layer, K before V.
        schedules: of all layers at once, the deepest cut first, progressive before uniform.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a low-rank lens"
    again: ClassVar[str] = "cut the weights again"

    format: Literal["kvlens.low-rank"] = "kvlens.low-rank"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    pooling: str
    texts: TextsInfo
    threshold: Share
    cuts: tuple[Cut, ...] = Field(min_length=1)
    conditions: tuple[Condition, ...]
    schedules: tuple[Schedule, ...]
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> LowRank:
        if self.texts.n < 1:
            raise ValueError("it is of no texts")
        self.model.check_layers(self.layers)
        for cut in self.cuts:
            if cut.rank > cut.full_rank:
                raise ValueError(f"rank {cut.rank} of {cut.full_rank} in layer {cut.layer}")
        if {(each.kind, each.layer) for each in self.conditions} != {
            (each.kind, each.layer) for each in self.cuts
        }:
            raise ValueError("conditions are not of the layers that were cut")
        if any(len(each.shares) != len(self.layers) for each in self.schedules):
            raise ValueError("a schedule has not a share a layer")
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        """The blocks whose weights were cut, ascending."""
        return tuple(sorted({cut.layer for cut in self.cuts}))

    def cuts_of(self, kind: str, layer: int) -> tuple[Cut, ...]:
        """One matrix' cuts, the lowest rank first."""
        return tuple(cut for cut in self.cuts if (cut.kind, cut.layer) == (kind, layer))

    def share_needed(self, kind: str, layer: int) -> float:
        """The share of the rank from which on the embedding does not move; 1: no cut leaves it."""
        needed = 1.0
        for cut in reversed(self.cuts_of(kind, layer)):
            if cut.cosine < self.threshold:
                break
            needed = cut.share
        return needed

    def schedules_of(self, way: Way) -> tuple[Schedule, ...]:
        """One way's schedules, the deepest cut first."""
        return tuple(each for each in self.schedules if each.way == way)

    def _repr_html_(self) -> str:
        return printed_html(self, "cosine to the embedding of whole weights by layer and rank")

    def __str__(self) -> str:
        title = (
            f"{self.model.name}, {self.texts.n} texts: share of the rank that W_K and W_V need, "
            f"each alone, for a mean cosine of {self.threshold:g}"
        )
        lines = [title, f"{'layer':>5} {'K':>6} {'V':>6}"]
        for layer in self.layers:
            needed = [self.share_needed(kind, layer) for kind in ("k", "v")]
            lines.append(f"{layer:>5} " + " ".join(f"{share:>6.2f}" for share in needed))
        lines.append("all layers at once: share kept, mean cosine ± SD over texts")
        lines += [_line(each) for each in self.schedules]
        return text_of_lines(lines)


def _line(schedule: Schedule) -> str:
    return f"{schedule.way:>12} {schedule.kept:.2f}  {schedule.cosine:.4f} ± {schedule.spread:.4f}"
