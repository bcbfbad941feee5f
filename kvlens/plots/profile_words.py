"""The words of a profile's picture: names of curves, and the caption below."""

from __future__ import annotations

from collections.abc import Sequence

from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.layers.layer_set import LayerSet
from kvlens.plots.style import BAND
from kvlens.plots.words import NBSP, named, shortened
from kvlens.store.layer_ranges import phrase

Row = Sequence[IDEstimate]


def curve_label(profile: IDProfile, shown: Sequence[IDProfile]) -> str:
    """The model, and what tells this profile from the others of the same model."""
    siblings = [_facts(other) for other in shown if other.model.name == profile.model.name]
    label = [shortened(profile.model.name)]
    for fact, of_siblings in zip(_facts(profile), zip(*siblings, strict=True), strict=True):
        if set(of_siblings) != {fact}:
            label.append(fact)
    return ", ".join(label)


def caption(
    shown: Sequence[IDProfile], sets: Sequence[LayerSet | None], drawn: Sequence[Row]
) -> str:
    """What is drawn, of which data, and how bands, hollow marks and shades are to be read.

    Args:
        shown: the profiles, at least one.
        sets: the layer set of each, or None.
        drawn: the estimates of each curve.
    """
    sentences = [_subject(shown)]
    sentences.append(f"Band: ±{BAND} standard errors (sampling only, not bias).")
    sentences.append(_doubts(drawn))
    if len(shown) == 1:
        sentences.append(_gaps(shown[0]))
        sentences.append(_choice(sets[0]))
        sentences.append(_stability(sets[0]))
        sentences.append(_sink(shown[0]))
    text = " ".join(filter(None, sentences))
    return text.replace("n = ", f"n{NBSP}={NBSP}")


def _facts(profile: IDProfile) -> list[str]:
    """States, points, prompt and texts of a profile, in words."""
    states = named(profile.states)
    points = named(profile.points)
    prompt = f"prompt {profile.prompt.name}"
    texts = f"n = {profile.texts.n:,} texts"
    return [states, points, prompt, texts + _points_a_layer(profile)]


def _points_a_layer(profile: IDProfile) -> str:
    """How many points the estimates used, where that is not one a text."""
    used = {estimate.n for row in profile.estimates.values() for estimate in row}
    if used == {profile.texts.n}:
        return ""
    if len(used) == 1:
        return f" ({min(used):,} points a layer)"
    return f" ({min(used):,} to {max(used):,} points a layer)"


def _subject(shown: Sequence[IDProfile]) -> str:
    """The model, or of several the estimator; and every fact, with what differs side by side."""
    first = shown[0]
    if len(shown) == 1:
        head = f"{shortened(first.model.name)}, {first.model.n_layers} layers"
    else:
        estimator = next(iter(first.estimates))
        head = named(estimator)
    columns = zip(*[_facts(profile) for profile in shown], strict=True)
    facts = [" / ".join(dict.fromkeys(column)) for column in columns]
    return f"{head}: {'; '.join(facts)}."


def _doubts(drawn: Sequence[Row]) -> str:
    """The kinds of warnings among the estimates, in order of appearance."""
    warnings = [text for row in drawn for estimate in row for text in estimate.warnings]
    kinds = dict.fromkeys(shortened(text.partition(":")[0]) for text in warnings)
    return f"Hollow: in doubt ({', '.join(kinds)})." if kinds else ""


def _gaps(profile: IDProfile) -> str:
    """The layers that have no estimate."""
    return f"No estimate at {phrase([*profile.skipped])}." if profile.skipped else ""


def _choice(layer_set: LayerSet | None) -> str:
    """How the shaded layers were chosen."""
    if layer_set is None or not layer_set.layers:
        return ""
    shape = f"shape of the profile: {layer_set.shape.name}"
    return f"Shaded: chosen by rule {layer_set.rule}; {shape}."


def _stability(layer_set: LayerSet | None) -> str:
    """What the strip shows."""
    if layer_set is None or layer_set.stability is None:
        return ""
    stability = layer_set.stability
    draws = f"{stability.draws} draws of {stability.n:,} texts each"
    return f"Strip: share of {draws} in which the rule takes the layer (full height: all)."


def _sink(profile: IDProfile) -> str:
    """What b* is, where it was looked for."""
    sink = profile.sink
    if sink is None:
        return ""
    if sink.block is None:
        return "No block writes a massive activation at position 0."
    share = f"{100 * sink.share:.0f}{NBSP}% of the texts"
    return f"b*: block {sink.block} writes position 0's massive activation ({share})."
