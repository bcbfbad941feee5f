"""Cautions: what to beware of in a choice of layers, whatever the rule."""

from __future__ import annotations

from collections.abc import Sequence

from kvlens.dimension.profile import IDProfile, warning_kind
from kvlens.dimension.sink import Sink
from kvlens.layers.choice import Choice
from kvlens.layers.control import Control
from kvlens.layers.evidence import Evidence
from kvlens.layers.layer_set import Prompts
from kvlens.layers.stability import Stability
from kvlens.store.layer_ranges import phrase


def cautions(
    profile: IDProfile,
    evidence: Evidence,
    choice: Choice,
    prompts: Prompts,
    stability: Stability | None,
    control: Control,
) -> list[str]:
    """What to beware of, whatever the rule.

    Args:
        profile: what the rule looked at.
        evidence: of it.
        choice: of the rule.
        prompts: that texts will be embedded with.
        stability: of the choice, where it is known.
        control: whom the prefix will reach.
    """
    cautions: list[str] = []
    if evidence.parameters.layers is None:
        cautions += _edge_cautions(evidence, choice)
    cautions += sink_cautions(profile.sink, choice.layers, control.shields_sink)
    cautions += _seldom_taken(stability, choice)
    if evidence.parameters.layers is None and evidence.all_early:
        cautions.append("only early layers can be re-routed: `skip_early` leaves out none")
    n_profiled = len(evidence.layers)
    if n_profiled < evidence.n_layers:
        cautions.append(
            f"only {n_profiled} of the model's {evidence.n_layers} layers were profiled"
        )
    cautions += _doubtful_estimates(profile, evidence.parameters.estimator, choice)
    if profile.prompt not in (prompts.query, prompts.document):
        cautions.append(
            f"profiled with prompt {profile.prompt.name}, "
            f"but documents will use {prompts.document.name}"
        )
    return cautions


def _edge_cautions(evidence: Evidence, choice: Choice) -> list[str]:
    """Is the lowest layer an edge, or not chosen? Is the model's first or last layer chosen?"""
    cautions: list[str] = []
    layers = evidence.layers
    lowest = min(layers, key=lambda layer: evidence.value[layer])
    edges = (layers[0], layers[-1], *evidence.shape.edge_minima)
    edge = ", an edge" if lowest in edges else ""
    out = ", which is not chosen" if lowest not in choice.layers else ""
    if edge or out:
        cautions.append(f"the profile is lowest at {evidence.describe(lowest)}{edge}{out}")
    ends = {"first": 0, "last": evidence.n_layers - 1}
    chosen_ends = [name for name, layer in ends.items() if layer in choice.layers]
    if chosen_ends:
        cautions.append(f"the choice includes the model's {' and '.join(chosen_ends)} layer")
    return cautions


def _doubtful_estimates(profile: IDProfile, estimator: str, choice: Choice) -> list[str]:
    """Which of the chosen layers' estimates carry warnings, and of what kinds."""
    chosen = [each for each in profile.estimates[estimator] if each.layer in choice.layers]
    doubtful = [estimate for estimate in chosen if estimate.warnings]
    if not doubtful:
        return []
    layers = phrase([estimate.layer for estimate in doubtful])
    warnings = [warning for estimate in doubtful for warning in estimate.warnings]
    kinds = dict.fromkeys(warning_kind(warning) for warning in warnings)
    return [f"the ID at {layers} is in doubt ({', '.join(kinds)})"]


def sink_cautions(sink: Sink | None, layers: Sequence[int], shielded: bool = False) -> list[str]:
    """A warning when re-routing reaches the block that writes position 0's massive activation.

    Measured on SmolLM2-135M, whose b* is 11: re-routed below it, quality collapses; hidden from
    position 0, mostly not.

    Args:
        sink: of the profile; None: not measured.
        layers: that are re-routed.
        shielded: whether the prefix is hidden from position 0.
    """
    if shielded or sink is None or sink.block is None:
        return []
    reached = [layer for layer in sorted(layers) if layer <= sink.block]
    if not reached:
        return []
    return [
        f"{phrase(reached)} not above b* (block {sink.block}), which writes position 0's massive "
        "activation: re-routed there, position 0 takes the prefix up, and later layers can lose "
        "their attention sink"
    ]


def _seldom_taken(stability: Stability | None, choice: Choice) -> list[str]:
    """A warning when chosen layers are not chosen from most halves of the texts."""
    seldom = stability.seldom(choice.layers) if stability else []
    if stability is None or not seldom:
        return []
    return [f"not stable: {stability.shares(seldom)} of {stability.draws} draws of half the texts"]
