"""Rules: from the evidence of an ID profile to layers.

A rule is a function from `Evidence` to a `Choice`, and one entry of `RULES`. Their names are in the
terminal's help, so that nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from kvlens.layers.evidence import Evidence


@dataclass(frozen=True)
class Choice:
    """What a rule answers.

    Attributes:
        layers: block indices, in any order.
        branch: which of its branches the rule took.
        reason: why, in one sentence.
        warnings: what to beware of.
    """

    layers: tuple[int, ...]
    branch: str
    reason: str
    warnings: tuple[str, ...] = ()


Rule = Callable[["Evidence"], Choice]


def lowest_k(evidence: Evidence) -> Choice:
    """The 1 + floor(window * n_layers) layers of lowest ID past skip_early, whatever the shape."""
    late = evidence.late_by_id()
    chosen = late[: 1 + evidence.further]
    count = f"{len(chosen)} layers" if len(chosen) > 1 else "layer"
    return Choice(
        layers=tuple(chosen),
        branch="lowest past skip_early",
        reason=(
            f"The {count} of lowest {evidence.parameters.estimator} ID {evidence.past}; "
            f"the lowest is {evidence.describe(chosen[0])}."
        ),
        warnings=tuple(_lowest_k_warnings(evidence, chosen, late)),
    )


def _lowest_k_warnings(evidence: Evidence, chosen: list[int], late: list[int]) -> list[str]:
    """Rivals of the chosen, too few layers, and a choice where the ID falls towards its limit."""
    not_chosen = late[len(chosen) :]
    warnings = evidence.rivals(chosen[-1], sorted(not_chosen))
    if len(chosen) <= evidence.further:
        warnings.append(
            f"only {len(chosen)} profiled layers lie {evidence.past}, too few for the window"
        )
    limit = min(late)
    if limit in chosen and _falls_before(evidence, limit):
        warnings.append(
            f"layer {limit} is where skip_early ends, not a minimum: the ID is lower before it"
        )
    return warnings


def _falls_before(evidence: Evidence, limit: int) -> bool:
    """Whether the ID is lower at the profiled layer just before `limit`."""
    earlier = [layer for layer in evidence.layers if layer < limit]
    return bool(earlier) and bool(evidence.value[earlier[-1]] < evidence.value[limit])


def paper(evidence: Evidence) -> Choice:
    """U: the minimum and floor(window * n_layers) more. Several minima: as `lowest_k`.

    So too, with a warning, for the shapes that the paper does not cover.
    """
    if evidence.shape.name != "U":
        return _without_u(evidence)
    start = evidence.shape.minima[0]
    further = evidence.further
    end = min(start + further, evidence.n_layers - 1)
    warnings = evidence.rivals(start, evidence.layers)
    if end < start + further:
        warnings.append(
            f"the window is clipped at the last layer, {end}: {end - start} further layers"
        )
    p = evidence.parameters
    return Choice(
        layers=tuple(range(start, end + 1)),
        branch="U: window from the minimum",
        reason=(
            f"The {p.estimator} profile is a U with its minimum at {evidence.describe(start)}: "
            f"the window starts there and spans floor({p.window:g} x {evidence.n_layers}) = "
            f"{further} more."
        ),
        warnings=tuple(warnings),
    )


def _without_u(evidence: Evidence) -> Choice:
    """What rule `paper` does with another shape than a U."""
    lowest = lowest_k(evidence)
    shape = evidence.shape.name
    minima = evidence.shape.minima
    where = f", minima at {phrase(minima)}" if minima else ""
    guess = f"the paper's rule does not cover this shape ({shape}): the choice is a guess"
    covered = shape == "several minima"
    return Choice(
        layers=lowest.layers,
        branch=lowest.branch,
        reason=f"The profile is not a U ({shape}{where}), so the rule takes t{lowest.reason[1:]}",
        warnings=lowest.warnings if covered else (guess, *lowest.warnings),
    )


def window_around_minimum(evidence: Evidence) -> Choice:
    """1 + floor(window * n_layers) neighbouring layers around the lowest one past skip_early.

    An odd one out comes after it; the window is shifted to stay inside the model.
    """
    late = evidence.late_by_id()
    lowest = late[0]
    further = evidence.further
    start = max(0, min(lowest - further // 2, evidence.n_layers - 1 - further))
    return Choice(
        layers=tuple(range(start, start + further + 1)),
        branch="window around the minimum",
        reason=(
            f"A window around {evidence.describe(lowest)}, "
            f"where the {evidence.parameters.estimator} ID is lowest {evidence.past}."
        ),
        warnings=tuple(evidence.rivals(lowest, sorted(late))),
    )


def explicit(evidence: Evidence) -> Choice:
    """The layers that the user names."""
    layers = evidence.parameters.layers
    if layers is None:
        raise InputError(
            'rule "explicit" needs `layers`: block indices, or an empty tuple for the plain model'
        )
    return Choice(layers, "explicit", "The layers were given by the user.")


EXPLICIT = "explicit"

RULES: dict[str, Rule] = {
    "paper": paper,
    "lowest-k": lowest_k,
    "window-around-minimum": window_around_minimum,
    EXPLICIT: explicit,
}

# The rules that choose by the profile.
PROFILE_RULES = tuple(name for name in RULES if name != EXPLICIT)
