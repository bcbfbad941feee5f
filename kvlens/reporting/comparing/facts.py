"""Facts: what a run says, each as a row that other runs can have too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvlens.analysis.attention import AttentionShift
from kvlens.analysis.lens import KVLens
from kvlens.analysis.method_geometry import Geometry
from kvlens.evaluation.scores import Scores
from kvlens.plots.style import BAND
from kvlens.plots.words import STATES, metric_name
from kvlens.reporting.figures.collecting import place_in
from kvlens.reporting.figures.saved import KINDS
from kvlens.reporting.run_folder import Run
from kvlens.store.layer_ranges import phrase
from kvlens.studies.decision import Decision
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep

MODEL = "model"
CHOICE = "choice of layers"
PROFILE = "intrinsic dimension"
UPTAKE = "prefix's weight β in the re-routed layers"
SPACE = "embedding space"
RANKS = "effective rank, mean over layers"
BEST = "best, found among many on these pairs: too high"
ENDS = ("first tenth of the text", "last tenth of the text")


@dataclass(frozen=True)
class Fact:
    """What one run says in one row.

    Attributes:
        part: of the table.
        what: the row in it.
        words: as a table shows it.
        value: the number; None for what is none.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
    """

    part: str
    what: str
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, part: str, what: str, value: float, form: str = ".3f") -> Fact:
        """A number without an interval."""
        return cls(part, what, f"{value:{form}}", float(value))

    @classmethod
    def within(
        cls, part: str, what: str, bounds: tuple[float, float, float], note: str = ""
    ) -> Fact:
        """A number with its 95 % interval: value, low, high; and a note behind it."""
        value, low, high = map(float, bounds)
        form = ".3f" if abs(value) < 1 else ".1f"
        words = f"{value:{form}} ({low:{form}} to {high:{form}})"
        return cls(part, what, f"{words}{', ' if note else ''}{note}", value, low, high)


def facts_of(run: Run) -> tuple[Fact, ...]:
    """Everything that a run folder says, part by part."""
    return (
        *_of_model(run),
        *_of_choice(run),
        *_of_profile(run),
        *(_of_shift(run.shift) if run.shift else ()),
        *(_of_geometry(run.geometry) if run.geometry else ()),
        *_of_lens(run),
        *(_of_sweep(run.sweep) if run.sweep else ()),
        *(_of_readout(run.readout) if run.readout else ()),
        *_of_decision(run),
        *(_of_scores(run.scores) if run.scores else ()),
    )


def _of_model(run: Run) -> Iterator[Fact]:
    model = run.layers.model
    facts = {
        "name": model.name,
        "revision": model.revision[:19],
        "weights": model.dtype,
        "shape": f"{model.n_layers} layers, {model.n_heads} heads, {model.n_kv_heads} KV heads",
    }
    yield from (Fact(MODEL, what, words) for what, words in facts.items())


def _of_choice(run: Run) -> Iterator[Fact]:
    layers = run.layers
    facts = {
        "layers": f"{phrase(layers.layers)} of {layers.model.n_layers}",
        "rule": layers.rule,
        "shape of the profile": layers.shape.name,
        "stability": layers.stability_words,
        "position 0 (b*)": str(run.profile.sink or "not measured"),
        "warnings": f"{len(layers.warnings)}",
    }
    yield from (Fact(CHOICE, what, words) for what, words in facts.items() if words)


def _of_profile(run: Run) -> Iterator[Fact]:
    """The lowest ID and that of the first chosen layer, by the rule's estimator."""
    estimates = run.profile.estimates.get(run.layers.parameters.estimator)
    if estimates is None:
        return
    named = {"lowest": min(estimates, key=lambda each: each.value)}
    chosen = [each for each in estimates if each.layer in run.layers.layers]
    if chosen:
        named["lowest of the chosen layers"] = min(chosen, key=lambda each: each.value)
    for what, estimate in named.items():
        half = BAND * estimate.stderr
        bounds = (estimate.value, estimate.value - half, estimate.value + half)
        yield Fact.within(PROFILE, what, bounds, f"layer {estimate.layer}")


def _of_shift(shift: AttentionShift) -> Iterator[Fact]:
    """The mean over texts, heads and re-routed layers, with its interval over texts."""
    per_text = shift.arrays["ends.local"].astype(np.float64).mean((-1, -2))
    per_text = per_text[np.isfinite(per_text).all(1)]
    if len(per_text) < 2:
        return
    half = BAND * per_text.std(0, ddof=1) / np.sqrt(len(per_text))
    for end, what in enumerate(ENDS):
        mean = per_text[:, end].mean()
        yield Fact.within(UPTAKE, what, (mean, mean - half[end], mean + half[end]))


def _of_geometry(geometry: Geometry) -> Iterator[Fact]:
    for row in geometry.methods:
        yield Fact.of(SPACE, f"mean cosine, {row.label}", row.mean_cosine)
        yield Fact.of(SPACE, f"eigenvalue entropy, {row.label}", row.eigenvalue_entropy_ratio)


def _of_lens(run: Run) -> Iterator[Fact]:
    place = place_in(run.folder, KINDS["lens"])
    if place is None:
        return
    lens = KVLens.load(place)
    for kind, name in STATES.items():
        ranks = [spectrum.effective_rank for spectrum in lens.spectra_of(kind)]
        if ranks:
            yield Fact.of(RANKS, name, float(np.mean(ranks)), ".1f")


def _of_sweep(sweep: Sweep) -> Iterator[Fact]:
    part = f"windows of layers, {sweep.data} (Spearman × 100)"
    yield Fact.within(part, "no re-routing", (sweep.plain, sweep.plain_low, sweep.plain_high))
    best = max(sweep.windows, key=lambda window: window.spearman, default=None)
    if best is not None:
        note = f"{phrase(best.layers)}, bias {best.bias:g}"
        yield Fact.within(
            part, "best window (of many: too high)", (best.spearman, best.low, best.high), note
        )


def _of_readout(swept: ReadoutSweep) -> Iterator[Fact]:
    part = f"block that is read, {swept.data}, {swept.method} (Spearman × 100)"
    for what, block in (
        ("last block, as by default", swept.last),
        ("best block (of many: too high)", swept.best),
    ):
        note = f"block {block.block}{'' if block.final_norm else ', before the final norm'}"
        yield Fact.within(part, what, (block.spearman, block.low, block.high), note)


def _of_decision(run: Run) -> Iterator[Fact]:
    place = place_in(run.folder, KINDS["decision"])
    if place is None:
        return
    decision = Decision.load(place)
    part = f"how to embed, by {decision.kind} of {decision.data}"
    yield Fact(part, "answer", decision.verdict)
    margin = decision.proof.margin
    bounds = (margin.value, margin.low, margin.high)
    yield Fact.within(part, "re-routed less not re-routed, on the proof", bounds)


def _of_scores(scores: Scores) -> Iterator[Fact]:
    for score in scores.scores:
        part = f"{score.task} {score.split} ({metric_name(score.metric)})"
        note = "of a part of the task" if score.limited else ""
        yield Fact.within(part, score.label, (score.value, score.low, score.high), note)
