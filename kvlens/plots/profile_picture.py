"""What a picture of profiles shows, whichever library draws it: curves, chosen layers, words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.parts import unable_spans
from kvlens.plots.profile_marks import Strip, sink_place
from kvlens.plots.profile_words import caption, curve_label
from kvlens.plots.style import BAND, Look
from kvlens.plots.words import LAYER, named
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase, runs

Profiles = IDProfile | Sequence[IDProfile]
LayerSets = LayerSet | Sequence[LayerSet | None] | None

RELATIVE_DEPTH = "relative depth (0 first block, 1 last)"
DIMENSION = "intrinsic dimension"


@dataclass(frozen=True)
class Curve:
    """The ID of one model by one estimator.

    Attributes:
        label: its name in the legend.
        estimates: of each profiled layer, ascending.
        x: where they lie: the layer, or its relative depth.
        y: the ID.
        half_band: 1.96 standard errors of each.
        chosen: the layers that were chosen in this model.
        look: colour, marker and dash.
    """

    label: str
    estimates: tuple[IDEstimate, ...]
    x: Float[np.ndarray, " n_layers"]
    y: Float[np.ndarray, " n_layers"]
    half_band: Float[np.ndarray, " n_layers"]
    chosen: tuple[int, ...]
    look: Look

    @property
    def low(self) -> Float[np.ndarray, " n_layers"]:
        """The lower edge of the band."""
        return self.y - self.half_band

    @property
    def high(self) -> Float[np.ndarray, " n_layers"]:
        """The upper edge of the band."""
        return self.y + self.half_band

    @property
    def in_doubt(self) -> Bool[np.ndarray, " n_layers"]:
        """Which estimates carry warnings: they are drawn hollow."""
        return np.array([bool(estimate.warnings) for estimate in self.estimates])

    @property
    def at_chosen(self) -> Bool[np.ndarray, " n_layers"]:
        """Which estimates are of chosen layers: among several models they are outlined."""
        return np.array([estimate.layer in self.chosen for estimate in self.estimates])


@dataclass(frozen=True)
class ProfilePicture:
    """One profile with all its estimators, or several with the first estimator of each.

    Attributes:
        curves: in the order of the legend.
        several: whether there is more than one profile.
        relative: whether x is the relative depth, ``layer / (n_layers - 1)``.
        n_layers: of the deepest model.
        spans: (from, to) on the x axis of the chosen layers to be shaded.
        unable: (from, to) of the layers that cannot be re-routed, where all profiles are of one
            model.
        chosen: what the legend says of chosen layers; empty when none are.
        sink: where b* lies on the x axis, of one profile.
        strip: how often the rule takes each layer, of one profile.
        caption: the words below.
    """

    curves: tuple[Curve, ...]
    several: bool
    relative: bool
    n_layers: int
    spans: tuple[tuple[float, float], ...]
    unable: tuple[tuple[float, float], ...]
    chosen: str
    sink: float | None
    strip: Strip | None
    caption: str

    @classmethod
    def of(
        cls, profiles: Profiles, layer_sets: LayerSets, relative_depth: bool | None
    ) -> ProfilePicture:
        """See `kvlens.plots.plot_profile`, also for what is raised."""
        shown = [profiles] if isinstance(profiles, IDProfile) else list(profiles)
        sets = _one_for_each(shown, layer_sets)
        several = len(shown) > 1
        relative = several if relative_depth is None else relative_depth
        if several:
            curves = _curves_of_models(shown, sets, relative)
        else:
            curves = _curves_of_estimators(shown[0], sets[0], relative)
        depth = _depth(shown[0], relative)
        return cls(
            curves=tuple(curves),
            several=several,
            relative=relative,
            n_layers=max(profile.model.n_layers for profile in shown),
            spans=() if several else _spans(sets[0], relative),
            unable=_unable(shown, relative),
            chosen=_chosen_words(curves, several),
            sink=None if several else sink_place(shown[0], depth),
            strip=None if several else Strip.of(sets[0], depth),
            caption=caption(shown, sets, [curve.estimates for curve in curves]),
        )

    @property
    def x_label(self) -> str:
        """What the x axis is called."""
        return RELATIVE_DEPTH if self.relative else LAYER

    @property
    def x_range(self) -> tuple[float, float]:
        """The limits of the x axis."""
        if self.relative:
            return -0.02, 1.02
        return -0.6, self.n_layers - 0.4

    @property
    def top(self) -> float:
        """The upper limit of the y axis, a little above all bands."""
        return 1.06 * max(float(curve.high.max()) for curve in self.curves)

    def label_step(self, most: float) -> int:
        """Every how many layers to label, so that at most about `most` labels come."""
        for step in (1, 2, 5, 10, 20, 50):
            if self.n_layers / step <= most:
                return step
        return self.n_layers


def _one_for_each(shown: Sequence[IDProfile], layer_sets: LayerSets) -> list[LayerSet | None]:
    """A layer set, or None, for each profile; refuses what does not fit."""
    if isinstance(layer_sets, LayerSet):
        sets: list[LayerSet | None] = [layer_sets]
    else:
        sets = list(layer_sets or [None] * len(shown))
    if not shown or len(sets) != len(shown):
        counts = f"{len(shown)} profiles and {len(sets)} layer sets"
        raise InputError(f"{counts}: give a profile, and one set for each")
    for profile, layer_set in zip(shown, sets, strict=True):
        if layer_set is not None and layer_set.model != profile.model:
            fit = f"a layer set of {layer_set.model.name} does not fit"
            raise InputError(f"{fit} {profile.model.name}")
    return sets


def _curves_of_models(
    shown: Sequence[IDProfile], sets: Sequence[LayerSet | None], relative: bool
) -> list[Curve]:
    """The first estimator of each profile: a colour and marker each, dashed from the eighth on."""
    curves = []
    for i, (profile, layer_set) in enumerate(zip(shown, sets, strict=True)):
        estimator = next(iter(profile.estimates))
        label = curve_label(profile, shown)
        look = Look.of_model(i)
        curves.append(_curve(profile, estimator, layer_set, relative, label, look))
    return curves


def _curves_of_estimators(
    profile: IDProfile, layer_set: LayerSet | None, relative: bool
) -> list[Curve]:
    """Every estimator of one profile: a colour, marker and dash each."""
    curves = []
    for i, estimator in enumerate(profile.estimates):
        label = named(estimator)
        curves.append(_curve(profile, estimator, layer_set, relative, label, Look.of(i)))
    return curves


def _curve(
    profile: IDProfile,
    estimator: str,
    layer_set: LayerSet | None,
    relative: bool,
    label: str,
    look: Look,
) -> Curve:
    return Curve(
        label=label,
        estimates=profile.estimates[estimator],
        x=np.array(profile.layers) / _depth(profile, relative),
        y=profile.values(estimator),
        half_band=BAND * profile.stderrs(estimator),
        chosen=layer_set.layers if layer_set else (),
        look=look,
    )


def _depth(profile: IDProfile | LayerSet, relative: bool) -> int:
    """What a layer is divided by to be a place on the x axis."""
    return max(profile.model.n_layers - 1, 1) if relative else 1


def _spans(layer_set: LayerSet | None, relative: bool) -> tuple[tuple[float, float], ...]:
    """The unbroken runs of chosen layers on the x axis, half a layer wider at either end."""
    if layer_set is None:
        return ()
    depth = _depth(layer_set, relative)
    return tuple(
        ((first - 0.5) / depth, (last + 0.5) / depth) for first, last in runs(layer_set.layers)
    )


def _unable(shown: Sequence[IDProfile], relative: bool) -> tuple[tuple[float, float], ...]:
    """The layers of the one model that cannot be re-routed, on the x axis; of several, none."""
    first = shown[0]
    if any(profile.model != first.model for profile in shown):
        return ()
    depth = _depth(first, relative)
    return tuple((left / depth, right / depth) for left, right in unable_spans(first.model))


def _chosen_words(curves: Sequence[Curve], several: bool) -> str:
    if not any(curve.chosen for curve in curves):
        return ""
    return "chosen layers" if several else f"chosen: {phrase(curves[0].chosen)}"
