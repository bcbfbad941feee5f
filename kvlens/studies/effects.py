"""Effects: how far an embedding moves, and its quality, when a part of the route is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal, Unpack

import numpy as np
from jaxtyping import Float32
from pydantic import Field, FiniteFloat, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from kvlens.evaluation.significance import draws, spearman
from kvlens.layers.control import PAPER, Control
from kvlens.layers.route import Route, RouteLike, a_route
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.rerouting.calibration import CalibrationLike, with_calibration
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count
from kvlens.store.checking import arguments, flag, function, optional, text
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of, text_of_lines
from kvlens.store.layer_ranges import phrase
from kvlens.store.progress import Progress
from kvlens.store.provenance import versions
from kvlens.studies.comparison import Interval
from kvlens.studies.route_parts import Kind, Part, parts_of
from kvlens.studies.sweep_vectors import Embedding, route_vectors
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, TextsInfo, as_texts

OWN = {"value": "value", "key": "key", "content": "key and value"}
"""Kinds of parts that something else stands for -> what of the text is replaced."""


class Effect(Record):
    """What one part of a route does: the route with it against the route without it.

    Attributes:
        kind: of the part: the whole ``route``, a ``layer``, a ``head``, the ``queries`` of some
            tokens, or the text's own ``value``, ``key``, or both, its ``content``.
        layer: whose prefix; None: that of all layers.
        head: whose prefix; None: that of all query heads.
        name: the tokens that do not see the prefix, or what stands for what is its own; else empty.
        moved: 1 - cosine of a text's two embeddings, mean over texts.
        spread: standard deviation over texts (ddof 1); 0 for one text.
        score: what the part adds, Spearman x 100 over the pairs, with its paired 95 % bootstrap
            interval; None without pairs.
    """

    kind: Kind
    layer: int | None = None
    head: int | None = None
    name: str = ""
    moved: FiniteFloat
    spread: FiniteFloat
    score: Interval | None = None

    @property
    def words(self) -> str:
        """What the part is."""
        if self.kind == "route":
            return "all of the route"
        if self.kind == "queries":
            return f"the prefix of {self.name}"
        where = "all layers" if self.layer is None else f"layer {self.layer}"
        if self.kind in OWN:
            return f"the own {OWN[self.kind]} of {where} (else {self.name})"
        return f"{where}, head {self.head}" if self.kind == "head" else where


class Effects(JsonArtifact):
    """What each part of a route does to embeddings; one JSON file.

    Attributes:
        model: that was re-routed.
        prompt: around each text.
        pooling: from hidden states to a vector.
        layers: of the route, 0-based block indices, ascending.
        bias: one a layer.
        position: coding of the re-routed key.
        control: whom the prefix reaches and what it carries.
        texts: those whose embeddings were compared.
        n_pairs: of scored sentences; 0: none.
        score: the route's own, Spearman x 100; None without pairs.
        effects: one a part.
        versions: package -> version.
        command: the command line that made it, or null.
    """

    what: ClassVar[str] = "effects of a route"
    again: ClassVar[str] = "measure them again"

    format: Literal["kvlens.effects"] = "kvlens.effects"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    pooling: str
    layers: tuple[int, ...]
    bias: tuple[float, ...]
    position: str
    control: Control = PAPER
    texts: TextsInfo
    n_pairs: Count
    score: Interval | None = None
    effects: tuple[Effect, ...] = Field(min_length=1)
    versions: dict[str, str]
    command: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Effects:
        self.model.check_layers(self.layers)
        named = sorted({effect.layer for effect in self.effects if effect.layer is not None})
        if not set(named) <= set(self.layers):
            raise ValueError(
                f"effects of {phrase(named)}, where {phrase(self.layers)} are re-routed"
            )
        with_score = {effect.score is not None for effect in self.effects}
        if with_score != {self.n_pairs > 0} or (self.score is not None) != (self.n_pairs > 0):
            raise ValueError("scores go with pairs, and only so")
        return self

    def of(self, kind: Kind) -> tuple[Effect, ...]:
        """Those of one kind, in their order."""
        return tuple(effect for effect in self.effects if effect.kind == kind)

    def __str__(self) -> str:
        lines = [f"{self._title()}: {self.texts.n} texts, {self.texts.source}", HEAD]
        return text_of_lines([*lines, *(_line(effect) for effect in self.effects)])

    def _repr_html_(self) -> str:
        whole = [each for each in self.effects if each.layer is None or each.kind == "layer"]
        heads = sorted(self.of("head"), key=lambda head: -head.moved)[:SHOWN_HEADS]
        shown = {f"without {each.words}": _found(each) for each in (*whole, *heads)}
        title = f"{self._title()}, {self.texts.n} texts; 1 - cosine, mean ± SD"
        return facts_html(title, shown, (), picture_of(self, title))

    def _title(self) -> str:
        source = f" ({self.control.source_words})" if self.control.source_words else ""
        return f"effects of re-routing {phrase(self.layers)} of {self.model.name}{source}"


HEAD = f"{'left out':48} {'1 - cosine':>16}  score with it less without"
SHOWN_HEADS = 3  # in a notebook, those that move embeddings most; the picture has all


def _line(effect: Effect) -> str:
    score = "" if effect.score is None else effect.score.text()
    return f"{effect.words:48} {_moved(effect):>16}  {score}".rstrip()


def _found(effect: Effect) -> str:
    score = "" if effect.score is None else f"; adds {effect.score.text('.1f')} to the score"
    return f"{_moved(effect)}{score}"


def _moved(effect: Effect) -> str:
    return f"{effect.moved:.4f} ± {effect.spread:.4f}"


class EffectOptions(LimitOptions, total=False):
    """Further keywords of `effects`.

    Attributes:
        force: take a layer set that was made for another model.
        calibration: measure what other texts' values do in place of the own one, too; see
            `kvlens.calibration`.
        progress: called with (texts done, texts).
        command: the command line, for the file.
    """

    force: bool
    calibration: CalibrationLike | None
    progress: Progress | None
    command: str | None


@arguments(lm=a_model, layers=a_route, pooling=text, progress=optional(function), force=flag)
def effects(
    lm: LanguageModel,
    texts: Texts | Sequence[str] | Pairs,
    layers: RouteLike,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    pooling: str = "hybrid",
    **options: Unpack[EffectOptions],
) -> Effects:
    """Leave out each part of a route in turn, in one pass over the texts.

    Use validation pairs: what is chosen by these numbers must be proven on other data.

    Args:
        lm: the model.
        texts: or sentence pairs with their human scores, for the effect on quality too.
        layers: a route, a layer set, its file, or block indices; at least one.
        prompt: around each text: a Prompt, a name or a template.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
        **options: the limits, see `kvlens.texts.limits.Limits`; and see `EffectOptions`.

    Returns:
        The effect of the route, and of its layers, query heads, tokens and values.

    Raises:
        InputError: as `reroute`, for no layers, and an unknown pooling.
    """
    route = _route_of(lm, layers, options)
    progress = options.pop("progress", None)
    command = options.pop("command", None)
    embedding = Embedding(as_prompt(prompt), pooling, Limits.of(options))
    pairs = texts if isinstance(texts, Pairs) else None
    items = as_texts(texts.distinct if isinstance(texts, Pairs) else texts)
    parts = list(parts_of(route, lm.anatomy))
    routes = [route, *(part.without for part in parts)]
    vectors = route_vectors(lm, items.items, routes, embedding, progress)
    whole, without = vectors[1], vectors[2:]
    scores = _scores(vectors[1:], items, pairs)
    return Effects(
        model=lm.info,
        prompt=embedding.prompt,
        pooling=pooling,
        layers=route.layers,
        bias=route.bias,
        position=route.position,
        control=route.control,
        texts=items.info(),
        n_pairs=len(pairs.scores) if pairs else 0,
        score=scores[0] if scores else None,
        effects=tuple(
            _effect(part, whole, left, scores[1 + number] if scores else None)
            for number, (part, left) in enumerate(zip(parts, without, strict=True))
        ),
        versions=versions(),
        command=command,
    )


def _route_of(lm: LanguageModel, layers: RouteLike, options: EffectOptions) -> Route:
    """The route whose parts are left out, with the states of other texts where there are any."""
    force = options.pop("force", False)
    control = with_calibration(layers, {"calibration": options.pop("calibration", None)})
    route = Route.of(lm.info, layers, force=force, **control)
    if not route.layers:
        raise InputError("`layers` holds none: a route without layers has no effects")
    calibration = control.get("calibration")
    if calibration is None:
        return route
    calibration.check_serves(lm.info, route.layers)
    return replace(route, calibration=calibration)


def _effect(
    part: Part,
    whole: Float32[Tensor, "n_texts d"],
    left: Float32[Tensor, "n_texts d"],
    score: Interval | None,
) -> Effect:
    cosines = (normalize(whole.double(), dim=-1) * normalize(left.double(), dim=-1)).sum(-1)
    moved = (1 - cosines).clamp(min=0).numpy()
    return Effect(
        kind=part.kind,
        layer=part.layer,
        head=part.head,
        name=part.name,
        moved=moved.mean(),
        spread=moved.std(ddof=1) if len(moved) > 1 else 0.0,
        score=score,
    )


def _scores(
    vectors: Float32[Tensor, "routes n_texts d"], items: Texts, pairs: Pairs | None
) -> list[Interval]:
    """The route's score, then what is lost without each part; none without pairs."""
    if pairs is None:
        return []
    row_of = {text: row for row, text in enumerate(items.items)}
    unit = normalize(vectors, dim=-1)
    first = unit[:, [row_of[text] for text in pairs.first]]
    second = unit[:, [row_of[text] for text in pairs.second]]
    cosines = (first * second).sum(-1).double().numpy()
    n = len(pairs.scores)
    on_all = spearman(cosines, pairs.scores, np.ones((1, n)))
    on_draws = spearman(cosines, pairs.scores, draws(n))
    return [
        Interval.of(on_all[0, 0], on_draws[0]),
        *(
            Interval.of(on_all[0, 0] - alone[0], on_draws[0] - drawn)
            for alone, drawn in zip(on_all[1:], on_draws[1:], strict=True)
        ),
    ]
