"""Rules: from the shape of an ID profile to layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import RuleParameters
from kvlens.layers.shape import Shape
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase


@dataclass(frozen=True)
class Choice:
    """What a rule answers: layers, the branch it took, why (one sentence), and what to beware of."""

    layers: tuple[int, ...]
    branch: str
    reason: str
    warnings: tuple[str, ...] = ()


class _View:
    """One estimator's numbers by layer, and the counts that the rules share."""

    def __init__(self, profile: IDProfile, p: RuleParameters):
        self.n, self.p, self.measured = profile.model.n_layers, p, list(profile.layers)
        self.value = dict(zip(self.measured, profile.values(p.estimator), strict=True))
        self.error = dict(zip(self.measured, profile.stderrs(p.estimator), strict=True))
        # Rounded first: 0.29 * 100 is 28.999999999999996 in binary.
        self.further = floor(round(p.window * self.n, 9))
        self.first = ceil(round(p.skip_early * self.n, 9))
        self.past = f"past the first {100 * p.skip_early:g} % of the depth"

    def late_by_id(self) -> list[int]:
        late = [layer for layer in self.measured if layer >= self.first]
        if not late:
            raise InputError(f"no profiled layer lies {self.past}: lower skip_early")
        return sorted(late, key=lambda layer: (self.value[layer], layer))

    def show(self, layer: int) -> str:
        return f"layer {layer} (ID {self.value[layer]:.1f}, standard error {self.error[layer]:.1f})"

    def rivals(self, layer: int, others: Sequence[int]) -> list[str]:
        """A warning when the ID of some of the others is not clearly above that of `layer`."""
        margin = {
            s: self.p.z * np.hypot(self.error[s], self.error[layer]) for s in others if s != layer
        }
        close = [s for s, limit in margin.items() if self.value[s] - self.value[layer] <= limit]
        return (
            [f"the ID at layer {layer} is not clearly below that at {phrase(close)}"]
            if close
            else []
        )


def lowest_k(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """The 1 + floor(window * n_layers) layers of lowest ID past skip_early, whatever the shape."""
    view = _View(profile, p)
    late = view.late_by_id()
    chosen, rest = late[: 1 + view.further], late[1 + view.further :]
    warnings = view.rivals(chosen[-1], sorted(rest))
    if len(chosen) <= view.further:
        warnings.append(
            f"only {len(chosen)} profiled layers lie {view.past}, too few for the window"
        )
    limit = min(late)
    early = [layer for layer in view.measured if layer < limit]
    if early and limit in chosen and view.value[early[-1]] < view.value[limit]:
        warnings.append(
            f"layer {limit} is where skip_early ends, not a minimum: the ID is lower before it"
        )
    count = f"{len(chosen)} layers" if len(chosen) > 1 else "layer"
    reason = (
        f"The {count} of lowest {p.estimator} ID {view.past}; the lowest is {view.show(chosen[0])}."
    )
    return Choice(tuple(chosen), "lowest past skip_early", reason, tuple(warnings))


def paper(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """U: the minimum and floor(window * n_layers) more. Several minima: `lowest_k`; so too, with a warning, for
    the shapes that the paper does not cover."""
    if shape.name != "U":
        lowest = lowest_k(profile, shape, p)
        where = f", minima at {phrase(shape.minima)}" if shape.minima else ""
        reason = (
            f"The profile is not a U ({shape.name}{where}), so the rule takes t{lowest.reason[1:]}"
        )
        guess = (
            f"the paper's rule does not cover this shape ({shape.name}): the choice is a guess",
        )
        warnings = lowest.warnings if shape.name == "several minima" else guess + lowest.warnings
        return Choice(lowest.layers, lowest.branch, reason, warnings)
    view, start = _View(profile, p), shape.minima[0]
    end = min(start + view.further, view.n - 1)
    reason = (
        f"The {p.estimator} profile is a U with its minimum at {view.show(start)}: the window starts there and "
        f"spans floor({p.window:g} x {view.n}) = {view.further} more."
    )
    warnings = tuple(view.rivals(start, view.measured))
    if end < start + view.further:
        warnings += (
            f"the window is clipped at the last layer, {end}: {end - start} further layers",
        )
    return Choice(tuple(range(start, end + 1)), "U: window from the minimum", reason, warnings)


def window_around_minimum(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """1 + floor(window * n_layers) neighbouring layers around the lowest one past skip_early (an odd one out
    comes after it), shifted to stay inside the model."""
    view = _View(profile, p)
    late = view.late_by_id()
    start = max(0, min(late[0] - view.further // 2, view.n - 1 - view.further))
    reason = (
        f"A window around {view.show(late[0])}, where the {p.estimator} ID is lowest {view.past}."
    )
    layers = tuple(range(start, start + view.further + 1))
    return Choice(
        layers, "window around the minimum", reason, tuple(view.rivals(late[0], sorted(late)))
    )


def explicit(profile: IDProfile, shape: Shape, p: RuleParameters) -> Choice:
    """The layers that the user names."""
    if p.layers is None:
        raise InputError(
            'rule "explicit" needs layers, such as layers=(7, 8, 9), or () for the plain model'
        )
    return Choice(p.layers, "explicit", "The layers were given by the user.")


Rule = Callable[[IDProfile, Shape, RuleParameters], Choice]


RULES: dict[str, Rule] = {
    "paper": paper,
    "lowest-k": lowest_k,
    "window-around-minimum": window_around_minimum,
    "explicit": explicit,
}
