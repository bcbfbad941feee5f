"""Relations: whether the files of one run folder were made of one another.

Of several files that one can have been made of, one that fits is enough.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvlens.analysis.attention import AttentionResult
from kvlens.analysis.lens import KVLens
from kvlens.analysis.low_rank import LowRank
from kvlens.analysis.method_geometry import Geometry
from kvlens.analysis.pair_parts import PairParts
from kvlens.analysis.probe_tokens import ProbeTokens
from kvlens.analysis.word_lens import WordLens
from kvlens.dimension.profile import IDProfile
from kvlens.embedding.configure import settings_from
from kvlens.embedding.post import Post
from kvlens.embedding.signature import signature_of
from kvlens.embedding.spec import REFERENCE
from kvlens.embedding.vectors import VectorsInfo
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.route import Route
from kvlens.methods.base import Method
from kvlens.methods.registry import get_method
from kvlens.models.present import CONTENT
from kvlens.reporting.examining import Examined, Started
from kvlens.reporting.mteb_results import REVISION_DIGITS, FiledResults
from kvlens.reporting.verification import Check
from kvlens.rerouting.static_prefix import StaticPrefix
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.studies.decision import Decision
from kvlens.studies.effects import Effects
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.studies.regret import LayerStudy, choices
from kvlens.tracing.trace import Trace

LONGEST_TRIED = 32_768  # tokens: limits under which a post-processing may have been fitted
TOLERANCE = 1e-6  # of Spearman x 100

Problem = Callable[[Any, Any], str | None]
"""Why a value was not made of another one; empty where it was, None where it need not be."""


@dataclass(frozen=True)
class Relation:
    """What files of one kind are to be made of.

    Attributes:
        kind: of the file.
        made_of: the kind of the other file.
        what: is compared.
        problem: compares.
        group: of the other file: one of each group has to fit, by default one of all.
        name: of the file, as commands give it: under another one it may be about anything.
    """

    kind: type
    made_of: type
    what: str
    problem: Problem
    group: Callable[[Any], Any] = type
    name: str = "*"


def relation_checks(examined: Sequence[Examined]) -> Iterator[tuple[Examined, Check]]:
    """The checks between the files of one folder, each with the file that it is about."""
    for each in examined:
        for relation in RELATIONS:
            if isinstance(each.value, relation.kind) and each.file.path.match(relation.name):
                yield from ((each, check) for check in _checks(each, relation, examined))


def _checks(each: Examined, relation: Relation, examined: Sequence[Examined]) -> list[Check]:
    groups: dict[Any, list[tuple[str, str]]] = {}
    others = [other for other in examined if isinstance(other.value, relation.made_of)]
    for other in sorted(others, key=lambda other: not _same_name(each.value, other.value)):
        problem = relation.problem(each.value, other.value)
        if problem is not None:
            name = other.file.path.name
            groups.setdefault(relation.group(other.value), []).append((name, problem))
    return [_best(relation.what, group) for group in groups.values()]


def _same_name(value: Any, other: Any) -> bool:
    """Whether both name one model: of several files, those are told of first."""
    names = {getattr(getattr(each, "model", None), "name", "") for each in (value, other)}
    return len(names) == 1


def _best(what: str, problems: Sequence[tuple[str, str]]) -> Check:
    """Agrees with the first file that fits; else the problem with the first file."""
    fitting = [name for name, problem in problems if not problem]
    if fitting:
        return Check("relation", what, "agrees", reason=fitting[0])
    name, problem = problems[0]
    others = ", nor does any other" if len(problems) > 1 else ""
    return Check("relation", what, "differs", reason=f"{problem} {name}{others}")


def _profile_of_layers(layers: LayerSet, profile: IDProfile) -> str | None:
    if layers.profile == profile:
        return ""
    fields = [name for name in IDProfile.model_fields if _field_differs(layers, profile, name)]
    return f"it was chosen from a profile with other {', '.join(fields)} than"


def _field_differs(layers: LayerSet, profile: IDProfile, name: str) -> bool:
    return getattr(layers.profile, name) != getattr(profile, name)


def _texts_of_profile(recorded: Trace | StaticPrefix | KVLens, profile: IDProfile) -> str | None:
    """`kvlens profile` keeps the trace that it measures, `kvlens lens` measures its profiles."""
    same = recorded.texts.sha256 == profile.texts.sha256
    return "" if same else "it is of other texts than"


def _sweep_of_study(study: LayerStudy, sweep: Sweep) -> str | None:
    if not study.model.same_weights(sweep.model):
        return f"it is of {study.model.name}, another model than that of"
    if (study.data, study.n_pairs) != (sweep.data, sweep.n_pairs):
        return "it judges other pairs than"
    if not _close(study.plain, sweep.plain):
        return f"without re-routing it has {study.plain:.2f}, another quality than"
    for outcome in study.outcomes:
        if not outcome.layers:
            continue
        window = sweep.find(outcome.layers, outcome.bias)
        which = f"{phrase(outcome.layers)} with bias {outcome.bias:g}"
        if window is None:
            return f"it judges {which}, which is not in"
        if not _close(window.spearman, outcome.spearman):
            return f"of {which} it says other than"
    return ""


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=0, abs_tol=TOLERANCE)


def _profile_of_study(study: LayerStudy, profile: IDProfile) -> str | None:
    kind = (profile.states, profile.points)
    outcomes = [each for each in study.outcomes if (each.states, each.points) == kind]
    if not outcomes:
        return None
    try:
        chosen = {
            (width, source.rule): layers
            for width in {outcome.width for outcome in outcomes}
            for source, layers in choices([profile], width, study.estimator).items()
        }
    except (InputError, KeyError):
        return f"it goes by {study.estimator}, of which there is nothing in"
    for outcome in outcomes:
        if chosen.get((outcome.width, outcome.rule), outcome.layers) != outcome.layers:
            return f"rule {outcome.rule} chose {phrase(outcome.layers)}, which it does not from"
    return ""


def _kind_of_profile(profile: IDProfile) -> tuple[str, str]:
    return profile.states, profile.points


def _layers_of_settings(rerouted: Sequence[Any], layers: LayerSet) -> str | None:
    """Whether re-routing rows were made with a layer set; rows name settings of their own."""
    if not rerouted:
        return None
    settings = _as_json(_method(layers).settings())
    other = [row for row in rerouted if _as_json(row.settings) != settings]
    if not other:
        return ""
    names = [name for name in settings if other[0].settings.get(name) != settings[name]]
    return f"{REFERENCE} was measured with other {', '.join(names)} than those of"


def _layers_of_scores(scores: Scores, layers: LayerSet) -> str | None:
    rerouted = [row for row in scores.scores if row.method_label == REFERENCE]
    return _layers_of_settings(rerouted, layers)


def _layers_of_geometry(geometry: Geometry, layers: LayerSet) -> str | None:
    rerouted = [row for row in geometry.methods if row.label == REFERENCE]
    return _layers_of_settings(rerouted, layers)


def _layers_of_readout(swept: ReadoutSweep, layers: LayerSet) -> str | None:
    """A sweep of the readout has none of its own: it reads everywhere."""
    if swept.method != REFERENCE:
        return None
    plain = layers.model_copy(update={"readout": None, "final_norm": True})
    return _layers_of_settings([swept], plain)


def _method(layers: LayerSet) -> Method:
    return get_method(REFERENCE, **settings_from(layers, layers.model))


def _as_json(settings: Any) -> Any:
    return json.loads(json.dumps(settings))


def _layers_of_attention(attention: AttentionResult, layers: LayerSet) -> str | None:
    route = Route.of(layers.model, layers)
    measured = (attention.layers, attention.bias, attention.position)
    if measured == (route.layers, route.bias, route.position):
        return ""
    return f"it is of {phrase(attention.layers)} and their biases, not those of"


def _layers_of_post(post: Post, layers: LayerSet) -> str | None:
    """Whether it was fitted for the encoder of a layer set, under some limit of its tokens."""
    context = layers.model.max_positions
    method = _method(layers)
    limits = (context, *range(1, min(context, LONGEST_TRIED) + 1))
    if any(signature_of(layers.model, method, limit) == post.embedder for limit in limits):
        return ""
    return "it was fitted for another encoder than that of"


def _post_of_vectors(vectors: VectorsInfo, post: Post) -> str | None:
    facts = vectors.post
    if facts is None or (facts.get("kind"), facts.get("embedder")) != (post.kind, post.embedder):
        return None
    same = facts == post.facts()
    return "" if same else "it was post-processed by another fit than"


def _same_model(result: Any, layers: LayerSet) -> str | None:
    if result.model.same_weights(layers.model):
        return ""
    return f"it is of {result.model.name} (another revision or tokenizer), not of the model of"


def _same_model_of_results(filed: FiledResults, layers: LayerSet) -> str | None:
    revision = layers.model.revision.removeprefix(CONTENT)[:REVISION_DIGITS]
    others = [result for result in filed.results if result.revision != revision]
    return f"{len(others)} of {len(filed.results)} are of another model than" if others else ""


def _results_of_scores(scores: Scores, filed: FiledResults) -> str | None:
    limited = any(row.limited for row in scores.scores)
    results = [result for result in filed.results if result.limited == limited]
    if not results:
        return None
    unbacked = [row for row in scores.scores if not any(each.backs(row) for each in results)]
    if not unbacked:
        return ""
    row = unbacked[0]
    return f"{len(unbacked)} rows ({row.label} on {row.task}) are not what was filed in"


MEASURED = (
    *(IDProfile, Trace, StaticPrefix, KVLens, WordLens, AttentionResult, Geometry),
    *(Sweep, ReadoutSweep, LayerStudy, Effects, Decision, LowRank, ProbeTokens, PairParts, Scores),
)
WITH_MODEL = (*MEASURED, VectorsInfo, Started)
RELATIONS = (
    *(Relation(kind, LayerSet, "same model", _same_model) for kind in WITH_MODEL),
    Relation(LayerSet, IDProfile, "profile", _profile_of_layers),
    Relation(Trace, IDProfile, "same texts", _texts_of_profile, name="trace.safetensors"),
    Relation(StaticPrefix, IDProfile, "same texts", _texts_of_profile),
    Relation(KVLens, IDProfile, "same texts", _texts_of_profile),
    Relation(LayerStudy, Sweep, "sweep", _sweep_of_study),
    Relation(LayerStudy, IDProfile, "profile", _profile_of_study, _kind_of_profile),
    Relation(Scores, LayerSet, "layer set", _layers_of_scores),
    Relation(Geometry, LayerSet, "layer set", _layers_of_geometry),
    Relation(ReadoutSweep, LayerSet, "layer set", _layers_of_readout),
    Relation(AttentionResult, LayerSet, "layer set", _layers_of_attention, name="attention/*"),
    Relation(Post, LayerSet, "layer set", _layers_of_post),
    Relation(VectorsInfo, Post, "post-processing", _post_of_vectors),
    Relation(FiledResults, LayerSet, "same model", _same_model_of_results),
    Relation(Scores, FiledResults, "results", _results_of_scores),
)
"""What belongs together in a folder."""
