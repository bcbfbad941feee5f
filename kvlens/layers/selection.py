"""From an ID profile to the layers to re-route: the profile's shape, the selection rules, the layer-set file.

Source: KV-Embedding (arXiv:2601.01046), layer selection by intrinsic dimension (ID): a small window at the ID
minimum. The exact branches of rule `paper` are known from secondary sources, and cover only two shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import LayerSet, Pooling, Position, Prompts, RuleParameters
from kvlens.layers.rules import RULES, _View
from kvlens.layers.shape import Shape, Z, shape
from kvlens.store.artifact import first_problem
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import versions
from kvlens.texts.prompts import DEFAULT_DOCUMENT, DEFAULT_QUERY, PROMPTS, Prompt


def select(
    profile: IDProfile,
    rule: str = "paper",
    window: float = 0.10,
    skip_early: float = 0.20,
    estimator: str = "twonn",
    layers: Sequence[int] | None = None,
    z: float = Z,
    *,
    bias: float | Sequence[float] = 1.0,
    position: Position = "keep",
    pooling: Pooling = "hybrid",
    query: Prompt | None = None,
    document: Prompt | None = None,
    command: str | None = None,
) -> LayerSet:
    """Choose the layers to re-route from an ID profile, by a rule of `RULES`.

    window: the choice has 1 + floor(window * n_layers) layers; skip_early: rules that rank leave out layers
    below ceil(skip_early * n_layers); z: see `shape`; layers: for rule explicit only, ascending. The rest
    describes the embedding, see `LayerSet`; document defaults to the prompt profiled with where that is a
    compression prompt, else to the paper's; query to the document prompt's counterpart.
    Raises InputError for an unknown rule or estimator and for values out of range.
    """
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}: choose one of {', '.join(RULES)}")
    if estimator not in profile.estimates:
        raise InputError(
            f"the profile has no estimator {estimator!r}, only {', '.join(profile.estimates)}"
        )
    if layers is not None and rule != "explicit":
        raise InputError(f'layers go with rule "explicit", not with "{rule}"')
    try:
        p = RuleParameters(
            window=window,
            skip_early=skip_early,
            estimator=estimator,
            z=z,
            layers=None if layers is None else tuple(layers),
        )
        found = shape(profile.values(estimator), profile.stderrs(estimator), z, profile.layers)
        choice = RULES[rule](profile, found, p)
        compression = profile.prompt.name.startswith("kv-document")
        document = document or (profile.prompt if compression else DEFAULT_DOCUMENT)
        counterpart = PROMPTS.get(document.name.replace("document", "query"), DEFAULT_QUERY)
        prompts = Prompts(query=query or counterpart, document=document)
        return LayerSet(
            model=profile.model,
            layers=choice.layers if rule == "explicit" else tuple(sorted(choice.layers)),
            bias=bias if isinstance(bias, int | float) else tuple(bias),
            position=position,
            pooling=pooling,
            prompts=prompts,
            rule=rule,
            parameters=p,
            branch=choice.branch,
            reason=choice.reason,
            shape=found,
            warnings=choice.warnings + _beware(profile, found, p, choice.layers, prompts),
            profile=profile,
            versions=versions(),
            command=command,
        )
    except ValidationError as error:
        raise InputError(first_problem(error)) from error


def _beware(
    profile: IDProfile, found: Shape, p: RuleParameters, layers: Sequence[int], prompts: Prompts
) -> tuple[str, ...]:
    """What every rule warns of: edges, layers without an estimate, doubtful estimates, another prompt."""
    view, n, warnings = _View(profile, p), profile.model.n_layers, []
    lowest = min(view.measured, key=lambda layer: view.value[layer])
    if p.layers is None:
        edge = (
            ", an edge"
            if lowest in (view.measured[0], view.measured[-1], *found.edge_minima)
            else ""
        )
        out = ", which is not chosen" if lowest not in layers else ""
        warnings += (
            [f"the profile is lowest at {view.show(lowest)}{edge}{out}"] if edge or out else []
        )
        ends = [name for name, i in (("first", 0), ("last", n - 1)) if i in layers]
        warnings += [f"the choice includes the model's {' and '.join(ends)} layer"] if ends else []
    if len(view.measured) < n:
        warnings.append(f"only {len(view.measured)} of the model's {n} layers were profiled")
    if doubtful := [e for e in profile.estimates[p.estimator] if e.warnings and e.layer in layers]:
        kinds = dict.fromkeys(text.partition(":")[0] for e in doubtful for text in e.warnings)
        warnings.append(
            f"the ID at {phrase([e.layer for e in doubtful])} is in doubt ({', '.join(kinds)})"
        )
    if profile.prompt not in (prompts.query, prompts.document):
        documents = prompts.document.name
        warnings.append(
            f"profiled with prompt {profile.prompt.name}, but documents will use {documents}"
        )
    return tuple(warnings)
