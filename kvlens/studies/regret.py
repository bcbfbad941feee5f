"""Layer study: do the rules that choose layers by intrinsic dimension (ID) find the good windows?

Good are the windows that a sweep favours. It knows which choices there are, and neither how they
are judged (`outcomes`) nor how the rules choose (`kvlens.layers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from kvlens.dimension.profile import IDProfile
from kvlens.layers.rules import DEPTH_RULES, PROFILE_RULES
from kvlens.layers.selection import select
from kvlens.models.info import ModelInfo
from kvlens.store.arguments import list_argument, refusal, text_argument
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import Count
from kvlens.store.checking import a, arguments, layer_list, members, text
from kvlens.store.errors import InputError
from kvlens.store.facts import printed_html, text_of_lines
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import current_command, versions
from kvlens.studies.comparison import Group, Resampling
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.outcomes import Correlation, Outcome, Source, correlations_of
from kvlens.studies.windows import Setting


class LayerStudy(JsonArtifact):
    """Does the ID rule pick the right layers?

    Attributes:
        model: whose sweep and profiles were compared.
        data: where the pairs come from.
        n_pairs: how many.
        plain: quality without re-routing, Spearman x 100.
        estimator: of the ID.
        outcomes: by width and bias: the best window, the average one, no re-routing, and what each
            rule chose.
        correlations: by width and bias, one a profile.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a layer study"
    again: ClassVar[str] = "run `kvlens sweep` with `profiles` again"

    format: Literal["kvlens.layer-study"] = "kvlens.layer-study"
    version: Literal[1] = 1
    model: ModelInfo
    data: str
    n_pairs: Count
    plain: float
    estimator: str
    outcomes: tuple[Outcome, ...]
    correlations: tuple[Correlation, ...]
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> LayerStudy:
        for outcome in self.outcomes:
            self.model.check_layers(sorted(outcome.layers))
            self.model.check_reroutable(outcome.layers)
        return self

    def _repr_html_(self) -> str:
        return printed_html(self, "quality of every window by its ID, and what each rule takes")

    def __str__(self) -> str:
        pairs = f"{self.n_pairs} pairs of {self.data}"
        lines = [f"{self.model.name}, {pairs}: Spearman x 100, {self.plain:.1f} plain"]
        lines += [f"  {outcome}" for outcome in self.outcomes]
        lines.append("rank correlation of -ID and quality over the windows")
        lines += [f"  {correlation}" for correlation in self.correlations]
        return text_of_lines(lines)


def choices(
    profiles: Sequence[IDProfile], width: int, estimator: str = "twonn"
) -> dict[Source, tuple[int, ...]]:
    """The layers that each rule of `select` takes when told to take `width`.

    Args:
        profiles: of one model.
        width: how many layers.
        estimator: of the ID.

    Returns:
        Layers by what chose them: profile by profile, then the rules that look at none.

    Raises:
        InputError: for two profiles of the same states and points.
    """
    kinds = [(profile.states, profile.points) for profile in profiles]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise InputError(
                f"two profiles of {', '.join(kind)}: give one of each states and points"
            )
    chosen = {}
    for profile in profiles:
        for rule in PROFILE_RULES:
            source = Source(rule, profile.states, profile.points)
            chosen[source] = _layers_by(rule, profile, width, estimator)
    for profile in profiles[:1]:
        for rule in DEPTH_RULES:
            chosen[Source(rule)] = _layers_by(rule, profile, width, estimator)
    return chosen


def _layers_by(rule: str, profile: IDProfile, width: int, estimator: str) -> tuple[int, ...]:
    share = (width - 1) / profile.model.n_layers
    return select(profile, rule, window=share, estimator=estimator).layers


def _named_layers(name: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """The check of a pair of a rule's name and layers."""
    pair = list_argument(name, value, "a name and layers")
    if len(pair) != 2:
        raise refusal(name, value, "a name and layers")
    return text_argument(name, pair[0]), layer_list(name, pair[1])


@arguments(
    sweep=a(Sweep, "a sweep of `kvlens.sweep`"),
    profiles=members(a(IDProfile, "a profile"), "profiles"),
    estimator=text,
    others=members(_named_layers, "pairs of a rule's name and layers"),
)
def study(
    sweep: Sweep,
    profiles: Sequence[IDProfile],
    estimator: str = "twonn",
    others: Sequence[tuple[str, Sequence[int]]] = (),
) -> LayerStudy:
    """Compare what the rules choose with every window of the sweep, for each width and bias in it.

    Args:
        sweep: its windows are compared, its other sets are looked up.
        profiles: of the same model, one of each states and points.
        estimator: of the ID.
        others: further choices (name of the rule, layers), judged among the windows of their
            width.

    Returns:
        For each width and bias: the best window, the average one, no re-routing and every choice;
        and how ID and quality go together.

    Raises:
        InputError: for a profile of another model, for two of the same states and points, and
            when a chosen layer set was not measured.
    """
    _refuse_other_model(sweep, profiles)
    if not all(window.cosines for window in sweep.measured) or not sweep.human:
        raise InputError("this sweep was saved without its cosines: sweep again")
    chosen = _chosen(sweep, profiles, estimator, others)
    rng = np.random.default_rng(sweep.seed)
    resampling = Resampling.of(np.array(sweep.human), sweep.seed, rng)
    cosines = [sweep.plain_cosines, *(window.cosines for window in sweep.measured)]
    scores = resampling.scores(np.array(cosines))
    plain = scores[0]
    row_of = {window.setting: row for row, window in enumerate(sweep.measured, 1)}
    outcomes: list[Outcome] = []
    correlations: list[Correlation] = []
    for (width, bias), chosen_of_width in chosen.items():
        windows = sweep.windows_of(width, bias)
        rows = [row_of[window.setting] for window in windows]
        group = Group(width, bias, windows, scores[rows], plain)
        outcomes += [Outcome.best(group), Outcome.average(group), Outcome.plain(group)]
        for source, layers in chosen_of_width:
            row = row_of[Setting.of(layers, bias)]
            outcomes.append(Outcome.of(source, layers, scores[row], group))
        correlations += correlations_of(group, profiles, estimator, rng)
    return LayerStudy(
        model=sweep.model,
        data=sweep.data,
        n_pairs=sweep.n_pairs,
        plain=sweep.plain,
        estimator=estimator,
        outcomes=tuple(outcomes),
        correlations=tuple(correlations),
        versions=versions(),
        command=current_command(),
    )


def _refuse_other_model(sweep: Sweep, profiles: Sequence[IDProfile]) -> None:
    for profile in profiles:
        if not profile.model.same_weights(sweep.model):
            raise InputError(
                f"the sweep is of {sweep.model.name}, a profile of {profile.model.name}: "
                "give profiles of one model"
            )


def _chosen(
    sweep: Sweep,
    profiles: Sequence[IDProfile],
    estimator: str,
    others: Sequence[tuple[str, Sequence[int]]],
) -> dict[tuple[int, float], list[tuple[Source, tuple[int, ...]]]]:
    """For each width and bias of the sweep's windows: what chose, and which layers."""
    chosen = {}
    for width, bias in sorted({(window.width, window.bias) for window in sweep.windows}):
        of_width = list(choices(profiles, width, estimator).items())
        for rule, layers in others:
            if len(layers) == width:
                of_width.append((Source(rule), tuple(layers)))
        for _, layers in of_width:
            if sweep.find(layers, bias) is None:
                raise InputError(
                    f"{phrase(layers)} with bias {bias:g} was not measured: "
                    "sweep again with it among the `layer_sets`"
                )
        chosen[width, bias] = of_width
    return chosen
