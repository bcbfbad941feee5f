"""Selection: from an ID profile to the layers to re-route.

Source: KV-Embedding (arXiv:2601.01046), layer selection by intrinsic dimension (ID): a small window
at the ID minimum. The exact branches of rule ``paper`` are known from secondary sources, and cover
only two shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from pydantic import ValidationError

from kvlens.dimension.profile import IDProfile
from kvlens.layers.cautions import cautions
from kvlens.layers.control import Control, Queries
from kvlens.layers.evidence import Evidence
from kvlens.layers.layer_set import (
    SKIP_EARLY,
    WINDOW,
    LayerSet,
    Pooling,
    Position,
    Prompts,
    RuleParameters,
)
from kvlens.layers.readout import Readout, readout_argument
from kvlens.layers.rules import EXPLICIT, RULES
from kvlens.layers.shape import Z, shape
from kvlens.layers.stability import Stability
from kvlens.store.artifact import first_problem
from kvlens.store.checking import a, arguments, bias, flag, layer_list, optional, real, text
from kvlens.store.errors import InputError
from kvlens.store.provenance import current_command, versions
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, query_for


class EmbeddingOptions(TypedDict, total=False):
    """The keywords by which `select` takes an `EmbeddingSettings`."""

    bias: float | Sequence[float]
    position: Position
    pooling: Pooling
    query: Prompt | None
    document: Prompt | None
    queries: Queries
    readout: Readout | None
    final_norm: bool


@dataclass(frozen=True)
class EmbeddingSettings:
    """How texts are embedded once the layers are chosen.

    Attributes:
        bias: see `LayerSet`.
        position: see `LayerSet`.
        pooling: see `LayerSet`.
        query: None: the document prompt's counterpart.
        document: None: the prompt profiled with where that is a compression prompt, else the
            default, in a chat where the profile was made in one.
        queries: which tokens see the prefix, see `kvlens.layers.control.Control`.
        readout: see `LayerSet`.
        final_norm: see `LayerSet`.
    """

    bias: float | Sequence[float] = 1.0
    position: Position = "keep"
    pooling: Pooling = "hybrid"
    query: Prompt | None = None
    document: Prompt | None = None
    queries: Queries = "all"
    readout: Readout | None = None
    final_norm: bool = True

    def prompts(self, profiled: Prompt) -> Prompts:
        """The prompts of a layer set whose profile was made with the prompt `profiled`."""
        is_compression = profiled.name.startswith("kv-document")
        default = profiled if is_compression else DEFAULT_DOCUMENT.in_chat(profiled.chat)
        document = self.document or default
        return Prompts(query=self.query or query_for(document), document=document)


@arguments(
    profile=a(IDProfile, "a profile of `kvlens.estimate`"),
    rule=text,
    window=real(least=0),
    skip_early=real(least=0),
    estimator=text,
    layers=optional(layer_list),
    z=real(),
    bias=bias,
    position=text,
    pooling=text,
    query=optional(a(Prompt, "a Prompt")),
    document=optional(a(Prompt, "a Prompt")),
    queries=text,
    readout=optional(readout_argument),
    final_norm=flag,
)
def select(
    profile: IDProfile,
    rule: str = "paper",
    window: float = WINDOW,
    skip_early: float = SKIP_EARLY,
    estimator: str = "twonn",
    layers: Sequence[int] | None = None,
    z: float = Z,
    **embedding: Unpack[EmbeddingOptions],
) -> LayerSet:
    """Choose the layers to re-route from an ID profile, by a rule of `RULES`.

    Args:
        profile: what `estimate` gave.
        rule: the name of the rule.
        window: the choice has 1 + floor(window * n_layers) layers.
        skip_early: rules that rank leave out layers below ceil(skip_early * n_layers).
        estimator: whose ID decides.
        layers: for rule ``explicit`` only, ascending.
        z: see `kvlens.layers.shape.shape`.
        **embedding: `bias`, `position`, `pooling`, `query`, `document`, `queries`, `readout`,
            `final_norm`: see `EmbeddingSettings`.

    Returns:
        The layer set.

    Raises:
        InputError: for an unknown rule or estimator, for values out of range, and for layers that
            cannot be re-routed.
    """
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}: choose one of {', '.join(RULES)}")
    if estimator not in profile.estimates:
        known = ", ".join(profile.estimates)
        raise InputError(f"the profile has no estimator {estimator!r}, only {known}")
    if layers is not None and rule != EXPLICIT:
        raise InputError(f'`layers` go with rule "explicit", not with "{rule}"')
    settings = EmbeddingSettings(**embedding)
    try:
        parameters = RuleParameters(
            window=window,
            skip_early=skip_early,
            estimator=estimator,
            z=z,
            layers=None if layers is None else tuple(layers),
        )
        return _selected(profile, rule, parameters, settings)
    except ValidationError as error:
        raise InputError(_problem(error)) from error


def _problem(error: ValidationError) -> str:
    """What is wrong with a layer set, behind the parameter that it came by, if it is one's."""
    problem = first_problem(error)
    place = error.errors()[0]["loc"]
    return f"`{place[0]}`: {problem.partition(': ')[2]}" if place else problem


def _selected(
    profile: IDProfile, rule: str, parameters: RuleParameters, settings: EmbeddingSettings
) -> LayerSet:
    """The layer set of checked names; raises ValidationError for what fits no layer set."""
    values = profile.values(parameters.estimator)
    errors = profile.stderrs(parameters.estimator)
    profile_shape = shape(values, errors, parameters.z, profile.layers)
    evidence = Evidence.of(profile, profile_shape, parameters)
    choice = RULES[rule](evidence)
    stability = None if rule == EXPLICIT else _stability(profile, rule, evidence)
    prompts = settings.prompts(profile.prompt)
    control = Control(queries=settings.queries)
    doubts = cautions(profile, evidence, choice, prompts, stability, control)
    bias = settings.bias
    return LayerSet(
        model=profile.model,
        # What the user names has to ascend already.
        layers=choice.layers if rule == EXPLICIT else tuple(sorted(choice.layers)),
        bias=bias if isinstance(bias, int | float) else tuple(bias),
        position=settings.position,
        pooling=settings.pooling,
        control=control,
        prompts=prompts,
        rule=rule,
        parameters=parameters,
        branch=choice.branch,
        reason=choice.reason,
        shape=profile_shape,
        warnings=(*choice.warnings, *doubts),
        profile=profile,
        versions=versions(),
        command=current_command() or None,
        stability=stability,
        readout=settings.readout,
        final_norm=settings.final_norm,
    )


def _stability(profile: IDProfile, rule: str, evidence: Evidence) -> Stability | None:
    """How often the rule takes each layer over the profile's draws; None where it has none."""
    if profile.draws is None:
        return None
    draws = profile.drawn_values(evidence.parameters.estimator)
    choices = [RULES[rule](evidence.with_values(values)).layers for values in draws]
    return Stability.of(choices, profile.draws.n)
