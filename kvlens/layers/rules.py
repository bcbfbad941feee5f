"""Rules: from the evidence of an ID profile to layers.

A rule is a function from `Evidence` to a `Choice`, and one entry of `RULES`. It chooses among the
layers that can be re-routed, and windows count them alone. The rules' names are in the terminal's
help, so that nothing heavy is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvlens.layers.choice import Choice, Rule
from kvlens.layers.depth_rules import fixed_depth, last_k
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase

if TYPE_CHECKING:
    from kvlens.layers.evidence import Evidence


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
            f"only {len(chosen)} profiled layers{evidence.which} lie {evidence.past}, "
            "too few for the window"
        )
    limit = min(late)
    if limit in chosen and _falls_before(evidence, limit):
        warnings.append(
            f"layer {limit} is where skip_early ends, not a minimum: the ID is lower before it"
        )
    return warnings


def _falls_before(evidence: Evidence, limit: int) -> bool:
    """Whether the ID is lower at the candidate just before `limit`."""
    earlier = [layer for layer in evidence.candidates if layer < limit]
    return bool(earlier) and bool(evidence.value[earlier[-1]] < evidence.value[limit])


def paper(evidence: Evidence) -> Choice:
    """U: the minimum and floor(window * n_layers) more. Several minima: as `lowest_k`.

    So too, with a warning, for the shapes that the paper does not cover. Where the minimum cannot
    be re-routed, the window starts at the next layer above it that can, with a warning.
    """
    if evidence.shape.name != "U":
        return _without_u(evidence)
    minimum = evidence.shape.minima[0]
    start = evidence.start_at(minimum)
    further = evidence.further
    above = [layer for layer in evidence.reroutable if layer >= start]
    chosen = above[: 1 + further]
    where = "there" if start == minimum else f"at layer {start}"
    p = evidence.parameters
    return Choice(
        layers=tuple(chosen),
        branch="U: window from the minimum",
        reason=(
            f"The {p.estimator} profile is a U with its minimum at {evidence.describe(minimum)}: "
            f"the window starts {where} and spans floor({p.window:g} x {evidence.n_layers}) = "
            f"{further} more{evidence.which}."
        ),
        warnings=tuple(_window_warnings(evidence, minimum, chosen)),
    )


def _window_warnings(evidence: Evidence, minimum: int, chosen: list[int]) -> list[str]:
    """Rivals of the minimum, a window that starts elsewhere, and one that is clipped."""
    warnings = evidence.rivals(minimum, evidence.layers)
    start = chosen[0]
    if start != minimum:
        warnings.append(
            f"the minimum, layer {minimum}, cannot be re-routed: the window starts at layer {start}"
        )
    if len(chosen) <= evidence.further:
        warnings.append(
            f"the window is clipped at the last layer{evidence.which}, {chosen[-1]}: "
            f"{len(chosen) - 1} further layers"
        )
    return warnings


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

    An odd one out comes after it; the window is shifted to stay inside the model. Neighbours are
    those among the layers that can be re-routed.
    """
    late = evidence.late_by_id()
    lowest = late[0]
    warnings = (*evidence.rivals(lowest, sorted(late)), *evidence.narrow())
    return Choice(
        layers=evidence.window_around(lowest),
        branch="window around the minimum",
        reason=(
            f"A window around {evidence.describe(lowest)}, "
            f"where the {evidence.parameters.estimator} ID is lowest {evidence.past}."
        ),
        warnings=warnings,
    )


def minimum_after_peak(evidence: Evidence) -> Choice:
    """A window around the first minimum that stands out after the first peak, else the lowest.

    Source: Valeriani et al. (arXiv:2302.00294), for proteins and images; there it is read out.
    """
    peak = evidence.first_peak
    after = [layer for layer in evidence.layers if layer > peak]
    if not after:
        return Choice(
            layers=evidence.window_around(evidence.start_at(peak)),
            branch="no layer after the peak",
            reason=f"The ID rises up to {evidence.describe(peak)}: the window lies at its end.",
            warnings=("no layer lies after the first peak: the choice is a guess",),
        )
    standing = [layer for layer in evidence.shape.minima if layer > peak]
    minimum = standing[0] if standing else min(after, key=lambda layer: evidence.value[layer])
    return Choice(
        layers=evidence.window_around(evidence.start_at(minimum)),
        branch="minimum after the first peak",
        reason=(
            f"A window around {evidence.describe(minimum)}, "
            f"the first minimum after the first peak, layer {peak}."
        ),
        warnings=(*evidence.rivals(minimum, after), *evidence.narrow()),
    )


def peak(evidence: Evidence) -> Choice:
    """A window around the highest ID.

    Source: Cheng et al. (arXiv:2405.15471): in five language models the layers of the peak
    transfer best; there they are read out.
    """
    if not evidence.candidates:
        raise InputError("no profiled layer can be re-routed: profile more of them")
    highest = max(evidence.candidates, key=lambda layer: evidence.value[layer])
    return Choice(
        layers=evidence.window_around(highest),
        branch="window around the peak",
        reason=f"A window around {evidence.describe(highest)}, where the ID is highest.",
        warnings=evidence.narrow(),
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
    "minimum-after-peak": minimum_after_peak,
    "peak": peak,
    "fixed-depth": fixed_depth,
    "last-k": last_k,
    EXPLICIT: explicit,
}

DEPTH_RULES = ("fixed-depth", "last-k")
"""The rules that look at no profile, and name no layer."""

PROFILE_RULES = tuple(name for name in RULES if name not in (*DEPTH_RULES, EXPLICIT))
"""The rules that choose by the profile."""
