"""Evidence: what a selection rule decides on, and the counts that the rules share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from jaxtyping import Float

from kvlens.dimension.profile import IDProfile
from kvlens.layers.layer_set import RuleParameters
from kvlens.layers.shape import Shape, shape
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase


@dataclass(frozen=True)
class Evidence:
    """One estimator's numbers by layer, their shape, and what the user asked for.

    Attributes:
        n_layers: of the model; not all of them need to have been profiled.
        reroutable: those of them that can be re-routed, ascending.
        value: layer -> ID, layers ascending.
        error: layer -> standard error of the ID.
        shape: of the profile.
        parameters: what the rule goes by.
    """

    n_layers: int
    reroutable: tuple[int, ...]
    value: dict[int, float]
    error: dict[int, float]
    shape: Shape
    parameters: RuleParameters

    @classmethod
    def of(cls, profile: IDProfile, shape: Shape, parameters: RuleParameters) -> Evidence:
        """The evidence of a profile."""
        values = profile.values(parameters.estimator)
        errors = profile.stderrs(parameters.estimator)
        return cls(
            n_layers=profile.model.n_layers,
            reroutable=profile.model.layers_to_reroute(),
            value=dict(zip(profile.layers, values, strict=True)),
            error=dict(zip(profile.layers, errors, strict=True)),
            shape=shape,
            parameters=parameters,
        )

    def with_values(self, values: Float[np.ndarray, " n_layers"]) -> Evidence:
        """The same with another ID by layer, and the shape that it has with the same errors."""
        errors = list(self.error.values())
        return replace(
            self,
            value=dict(zip(self.layers, values, strict=True)),
            shape=shape(values, errors, self.parameters.z, self.layers),
        )

    @property
    def layers(self) -> list[int]:
        """The profiled layers, ascending."""
        return list(self.value)

    @property
    def candidates(self) -> list[int]:
        """The profiled layers that can be re-routed, ascending."""
        return [layer for layer in self.layers if layer in self.reroutable]

    @property
    def further(self) -> int:
        """How many layers a choice has beside its first: floor(window * n_layers)."""
        # Rounded first: 0.29 * 100 is 28.999999999999996 in binary.
        return floor(round(self.parameters.window * self.n_layers, 9))

    @property
    def which(self) -> str:
        """What layers that can be re-routed are called; nothing where all can."""
        return "" if len(self.reroutable) == self.n_layers else " that can be re-routed"

    @property
    def first_late(self) -> int:
        """The first layer past skip_early."""
        return ceil(round(self.parameters.skip_early * self.n_layers, 9))

    @property
    def all_early(self) -> bool:
        """Whether some layers cannot be re-routed, among them all past skip_early."""
        return bool(self.which) and all(layer < self.first_late for layer in self.reroutable)

    @property
    def past(self) -> str:
        """Where ranking rules look, in words."""
        if self.all_early:
            return "at any depth"
        return f"past the first {100 * self.parameters.skip_early:g} % of the depth"

    def late_by_id(self) -> list[int]:
        """The profiled layers past skip_early that can be re-routed, lowest ID first.

        Where only early layers of the model can be re-routed, those.

        Raises:
            InputError: when there are none.
        """
        late = [layer for layer in self.candidates if self.all_early or layer >= self.first_late]
        if not late and self.all_early:
            able = phrase(self.reroutable)
            raise InputError(f"no profiled layer can be re-routed; those that can: {able}")
        if not late:
            raise InputError(f"no profiled layer{self.which} lies {self.past}: lower `skip_early`")
        return sorted(late, key=lambda layer: (self.value[layer], layer))

    @property
    def first_peak(self) -> int:
        """The first layer where a maximum stands out from its errors, else the highest one."""
        layers = self.layers
        values = np.array(list(self.value.values()))
        mirrored = shape(-values, list(self.error.values()), self.parameters.z, layers)
        return mirrored.minima[0] if mirrored.minima else layers[int(values.argmax())]

    def window_around(self, layer: int) -> tuple[int, ...]:
        """The window around a layer, shifted to stay inside the model.

        Neighbours are those among the layers that can be re-routed; an odd one out comes after.

        Args:
            layer: one that can be re-routed.
        """
        able = self.reroutable
        start = max(0, min(able.index(layer) - self.further // 2, len(able) - 1 - self.further))
        return able[start : start + self.further + 1]

    def narrow(self) -> tuple[str, ...]:
        """A warning when fewer layers can be re-routed than a window has."""
        if len(self.reroutable) > self.further:
            return ()
        return (f"only {len(self.reroutable)} layers can be re-routed, too few for the window",)

    def start_at(self, minimum: int) -> int:
        """The first layer from a minimum on that can be re-routed; else the last before it.

        Raises:
            InputError: when no layer can be re-routed.
        """
        if not self.reroutable:
            raise InputError("no layer of this model can be re-routed")
        return next((layer for layer in self.reroutable if layer >= minimum), self.reroutable[-1])

    def describe(self, layer: int) -> str:
        """A layer with its ID and standard error, in words."""
        return f"layer {layer} (ID {self.value[layer]:.1f}, standard error {self.error[layer]:.1f})"

    def rivals(self, layer: int, others: Sequence[int]) -> list[str]:
        """A warning when the ID of some of the others is not clearly above that of `layer`."""
        close = [
            other for other in others if other != layer and not self._clearly_above(other, layer)
        ]
        if not close:
            return []
        return [f"the ID at layer {layer} is not clearly below that at {phrase(close)}"]

    def _clearly_above(self, other: int, layer: int) -> bool:
        margin = self.parameters.z * np.hypot(self.error[other], self.error[layer])
        return bool(self.value[other] - self.value[layer] > margin)
