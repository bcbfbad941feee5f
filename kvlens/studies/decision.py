"""Decision: how to embed with a model, with the margin and how sure it is; one JSON file."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, FiniteFloat, model_validator

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.spec import REFERENCE, MethodSpec
from kvlens.layers.layer_set import FiniteBias, LayerIndices, LayerSet
from kvlens.layers.rules import EXPLICIT
from kvlens.layers.selection import select
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count
from kvlens.store.checking import a, arguments
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of, text_of_lines
from kvlens.store.layer_ranges import phrase
from kvlens.studies.comparison import Interval
from kvlens.studies.trials import Kind

SHOWN = 14  # rows on a terminal: one screen
UNITS = {
    "pairs": "Spearman x 100 of cosines and human scores",
    "passages": "how well passages find their article, their other half and a damaged copy, 0-100",
}


class Judged(Record):
    """One way to embed, judged on the second part of the items.

    Attributes:
        origins: why it was tried, see `kvlens.studies.contenders.Contender`; ``best window`` is
            the best of the first part.
        method: the method and its settings, as `kvlens.evaluate` takes them.
        post: the post-processing, or None.
        layers: that are re-routed; empty: none.
        coarse: the score on the first part, without post-processing; None: not judged there.
        score: with its 95 % bootstrap interval over items.
        gain: over the best without re-routing, on the same items.
        regret: the best of all less this, on the same items; the best was found on them.
        alignment: see `kvlens.studies.trials.Space`; None for pairs.
        uniformity: the same.
    """

    origins: tuple[str, ...]
    method: str
    post: str | None
    layers: LayerIndices
    coarse: FiniteFloat | None
    score: Interval
    gain: Interval
    regret: Interval
    alignment: FiniteFloat | None
    uniformity: FiniteFloat | None

    @property
    def words(self) -> str:
        """What a table shows: ``layers 26-29, bias 3, shielded, hybrid, kv-document + zscore``."""
        spec = MethodSpec.parse(self.method)
        own = {setting.name: setting.text for setting in spec.settings}
        if "layers" not in own:
            words = [spec.method_label]
        else:
            where = phrase(self.layers) if self.layers else "no re-routing"
            bias = [f"bias {own['bias']}"] if "bias" in own else []
            seen = [own[name] for name in ("queries", "pooling", "document") if name in own]
            words = [where, *bias, *seen]
        text = ", ".join(words)
        return f"{text} + {self.post}" if self.post else text


class RandomWindow(Record):
    """What a window drawn at random gets, on a quarter of the first part of the items.

    Attributes:
        width: how many layers.
        bias: of all layers.
        queries: which tokens see the prefix.
        pooling: from hidden states to a vector.
        n: windows.
        mean: score.
        spread: standard deviation over windows (ddof 1); 0 for one.
        best: score; found on these items.
        plain: score without re-routing, with the same prompt and pooling.
    """

    width: Count
    bias: FiniteBias
    queries: str
    pooling: str
    n: Count
    mean: FiniteFloat
    spread: FiniteFloat
    best: FiniteFloat
    plain: FiniteFloat

    def __str__(self) -> str:
        name = f"width {self.width}, bias {self.bias:g}, {self.queries}, {self.pooling} pooling"
        return (
            f"{name:46} {self.mean:5.1f} ± {self.spread:.1f} over {self.n} windows, "
            f"best {self.best:.1f}, plain {self.plain:.1f}"
        )


class Proof(Record):
    """The best way with re-routing against the best without, on items that chose neither.

    Attributes:
        rerouted: the row of the way with re-routing.
        plain: the row of the way without.
        rerouted_score: with its 95 % bootstrap interval over items.
        plain_score: the same.
        margin: with re-routing less without, on the same items.
    """

    rerouted: Count
    plain: Count
    rerouted_score: Interval
    plain_score: Interval
    margin: Interval


class Decision(JsonArtifact):
    """How to embed with a model.

    Attributes:
        model: that was tried.
        kind: what its embeddings were judged by: human ``pairs``, or unlabelled ``passages``.
        data: where these come from.
        n: items of the three parts: to look coarsely, to look finely, to prove.
        n_tried: ways to embed that were looked at coarsely.
        rows: the finalists, each with every post-processing, the best first.
        random: what windows drawn at random get.
        proof: whether re-routing pays.
        left_out: methods that this model cannot serve, and why.
        versions: package -> version.
        command: the command line that made it, or null.
    """

    what: ClassVar[str] = "a decision"
    again: ClassVar[str] = "run `kvlens choose` again"

    format: Literal["kvlens.decision"] = "kvlens.decision"
    version: Literal[1] = 1
    model: ModelInfo
    kind: Kind
    data: str
    n: tuple[Count, Count, Count]
    n_tried: Count
    rows: tuple[Judged, ...] = Field(min_length=2)
    random: tuple[RandomWindow, ...]
    proof: Proof
    left_out: tuple[str, ...] = ()
    versions: dict[str, str]
    command: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Decision:
        for row in self.rows:
            self.model.check_layers(row.layers)
            self.model.check_reroutable(row.layers)
        if max(self.proof.rerouted, self.proof.plain) >= len(self.rows):
            raise ValueError("the proof is of rows that are not there")
        if not self.rows[self.proof.rerouted].layers or self.rows[self.proof.plain].layers:
            raise ValueError("the proof is not of a row with re-routing and one without")
        return self

    @property
    def pays(self) -> bool:
        """Whether re-routing pays: the 95 % interval of its margin lies above 0."""
        return self.proof.margin.low > 0

    @property
    def chosen(self) -> Judged:
        """The way to embed."""
        return self.rows[self.proof.rerouted if self.pays else self.proof.plain]

    @property
    def best_rerouted(self) -> Judged:
        """The best way with re-routing, whether that pays or not."""
        return self.rows[self.proof.rerouted]

    @property
    def layers(self) -> tuple[int, ...]:
        """What to re-route; empty: nothing."""
        return self.chosen.layers

    @property
    def verdict(self) -> str:
        """Whether to re-route, and how sure that is, in a sentence."""
        margin = self.proof.margin
        on = f"{margin.text()} on {self.n[2]} {self.kind} that chose nothing"
        if self.pays:
            return f"re-routing pays: {on}"
        if margin.high < 0:
            return f"re-routing costs: {on}"
        return f"re-routing is not shown to pay: {on}; what is simpler is taken"

    @arguments(profile=a(IDProfile, "a profile of `kvlens.estimate`"))
    def layer_set(self, profile: IDProfile) -> LayerSet:
        """The layer set of the decision, for what takes one.

        Args:
            profile: of the model.

        Returns:
            A layer set of rule ``explicit``, with the verdict as its reason; without
            post-processing, which an encoder is given beside it.

        Raises:
            InputError: where another method was chosen, which has no layers, and for a profile of
                another model.
        """
        spec = MethodSpec.parse(self.chosen.method)
        if spec.method != REFERENCE:
            raise InputError(f"{spec.method} was chosen, which has no layer set")
        if not profile.model.same_weights(self.model):
            raise InputError(f"the profile is of {profile.model.name}, not of {self.model.name}")
        settings = {setting.name: setting.value for setting in spec.settings}
        settings["layers"] = self.layers
        chosen = select(profile, EXPLICIT, **settings)
        return chosen.model_copy(update={"reason": f"Chosen by its output: {self.verdict}."})

    def of_origin(self, origin: str) -> list[Judged]:
        """The rows that were tried for one reason, the best first."""
        return [row for row in self.rows if origin in row.origins]

    def __str__(self) -> str:
        lines = [f"{self.model.name}, judged by {self.data}: {UNITS[self.kind]}"]
        lines += [f"  {name:9} {value}" for name, value in self._facts().items()]
        lines.append(f"the best of {self.n_tried} ways, on {self.n[1]} {self.kind}")
        lines += [_line(row) for row in self.shown]
        lines.append("a window drawn at random, on a quarter of the first part")
        lines += [f"  {each}" for each in self.random if each.pooling == "hybrid"]
        lines += [f"left out: {each}" for each in self.left_out]
        return text_of_lines(lines)

    def _facts(self) -> dict[str, str]:
        chosen = self.chosen
        return {
            "method": chosen.method,
            "post": chosen.post or "none",
            "re-route": phrase(chosen.layers),
            "verdict": self.verdict,
        }

    def _repr_html_(self) -> str:
        picture = picture_of(self, f"gain over no re-routing of the best ways: {self.verdict}")
        return facts_html(f"decision: {self.model.name}", self._facts(), (), picture)

    @property
    def shown(self) -> list[Judged]:
        """The best rows, and the best of each origin, in their order."""
        origins = dict.fromkeys(origin for row in self.rows for origin in row.origins)
        wanted = [*self.rows[: SHOWN // 2], *(self.of_origin(origin)[0] for origin in origins)]
        return sorted(dict.fromkeys(wanted), key=self.rows.index)


def _line(row: Judged) -> str:
    origins = ", ".join(row.origins)
    gain = f"gain {row.gain.text()}, regret {row.regret.value:.1f}"
    return f"  {row.score.value:5.1f}  {gain:40}  {row.words}  ({origins})"
