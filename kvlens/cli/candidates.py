"""Candidates: which sets of layers a sweep re-routes, and who has chosen them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from kvlens.cli.swap import recover
from kvlens.cli.values import Layers, Names, Numbers, layers_or_file
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.dimension.profile import IDProfile
    from kvlens.layers.layer_set import LayerSet
    from kvlens.models.info import ModelInfo


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Windows:
    """Which sets of layers are re-routed, and which of them a rule would have chosen.

    Attributes:
        widths: window widths such as 1,4 [default: that of the rules]
        biases: biases such as 0,1,3
        layers: one more layer set: a file, or such as 23,27-29; may be repeated
        profiles: profile.json files, comma-separated: judge every rule on each (study.json);
            of a readout, the ID curve of the first is drawn below
    """

    widths: Layers | None = None
    biases: Numbers = (1.0,)
    layers: tuple[str, ...] = ()
    profiles: Names = ()


@dataclass(frozen=True)
class Candidates:
    """What is judged: layers that rules choose of profiles, and further sets of layers."""

    profiles: list[IDProfile]
    layer_sets: list[LayerSet]
    explicit: list[tuple[int, ...]]

    @classmethod
    def read(cls, windows: Windows) -> Candidates:
        """Those that the options name; raises InputError for a file that is none."""
        from kvlens.dimension.profile import IDProfile
        from kvlens.layers.layer_set import LayerSet

        for path in windows.profiles:
            recover(Path(path).parent)
        profiles = [IDProfile.load(path) for path in windows.profiles]
        layer_sets = []
        explicit = []
        for layers in map(layers_or_file, windows.layers):
            if isinstance(layers, tuple):
                explicit.append(layers)
            elif layers is not None:
                layer_sets.append(LayerSet.load(layers))
        return cls(profiles, layer_sets, explicit)

    @property
    def further(self) -> list[tuple[str, tuple[int, ...]]]:
        """What chose each further set of layers, and the layers."""
        chosen = [(layer_set.rule, layer_set.layers) for layer_set in self.layer_sets]
        return chosen + [("explicit", layers) for layers in self.explicit]

    def check_model(self, model: ModelInfo) -> None:
        """Raise InputError where one was made for another model."""
        for what, results in (("profile", self.profiles), ("layer set", self.layer_sets)):
            for result in results:
                if not result.model.same_weights(model):
                    raise InputError(
                        f"a {what} was made for {result.model.name}, not for {model.name}"
                    )

    def sets(self, layers: Sequence[int], widths: Iterable[int]) -> list[tuple[int, ...]]:
        """All sets of layers to embed with: windows among `layers`, others, the rules' choices."""
        from kvlens.studies.regret import choices
        from kvlens.studies.windows import windows

        widths = tuple(widths)
        sets = windows(layers, widths)
        sets += [chosen for _, chosen in self.further]
        for width in widths:
            sets += choices(self.profiles, width).values()
        return sets
