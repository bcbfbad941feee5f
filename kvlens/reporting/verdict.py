"""Verdict: the findings of a run in sentences."""

from __future__ import annotations

import numpy as np

from kvlens.analysis.attention import (
    KINDS,
    AttentionShift,
)
from kvlens.analysis.method_geometry import PLAIN
from kvlens.reporting.run_folder import Run
from kvlens.store.layer_ranges import phrase


def _verdict(run: Run) -> list[str]:
    """The findings in sentences, each number out of the results."""
    layers, said = run.layers, []
    if layers.warnings:
        more = (
            f" ({len(layers.warnings)} warnings in all, below)" if len(layers.warnings) > 1 else ""
        )
        said.append(f"Read the choice with care: {layers.warnings[0]}{more}.")
    if layers.profile != run.profile:
        said.append("profile.json is not the profile that these layers were chosen from.")
    if run.shift:
        said += [*_uptake(run.shift), *_moved(run.shift)]
    if (
        run.geometry
        and {PLAIN, "kv_embedding"}
        <= (rows := {row.label: row for row in run.geometry.methods}).keys()
    ):
        off, on = rows[PLAIN].mean_cosine, rows["kv_embedding"].mean_cosine
        said.append(
            f"Embeddings of {run.geometry.n} texts have a mean cosine of {on:.3f} with re-routing and {off:.3f} with "
            "the same prompt and pooling without it (0: directions spread evenly; 1: all the same)."
        )
    scores = run.scores.scores if run.scores else ()
    for task in dict.fromkeys(score.task for score in scores):
        here = [score for score in scores if score.task == task]
        own = [score for score in here if score.label == "kv_embedding"]
        best = max(here, key=lambda score: score.value)
        quick = " (a quick look with --limit)" if best.limited else ""
        told = (
            f"kv_embedding scores {own[0].value:.1f} ({own[0].low:.1f} to {own[0].high:.1f}); "
            if own
            else ""
        )
        said.append(
            f"{task}{quick}: {told}best of {len(here)} is {best.label} with {best.value:.1f}."
        )
    return said


def _uptake(shift: AttentionShift) -> list[str]:
    told, where = {}, f"mean over {phrase(shift.layers)}, {shift.model.n_heads} heads"
    for kind in KINDS:
        ends = shift.arrays[f"ends.{kind}"].astype(np.float64).mean((2, 3))
        ends = 100 * ends[np.isfinite(ends).all(1)]
        if not len(ends):
            return ["No text has a token of its own, so that there is no uptake to tell."]
        (early, late), step, n = ends.mean(0), ends[:, 1] - ends[:, 0], len(ends)
        half = 1.96 * step.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
        range_ = f", 95 % interval ± {half:.1f}" if n > 1 else ""
        told[kind] = (
            f"{early:.1f} % against {late:.1f} % (difference {step.mean():+.1f} points{range_})"
        )
        if kind == "local":
            clear = "less than" if early < late else "more than"
            much = clear if abs(step.mean()) > half else "as much, within error, as"
    if shift.span == "prompted":
        caveat = (
            "Counted over prompt and text: the first tenth holds position 0, the attention sink, and the prompt's "
            "opening, the last tenth the prompt's end, so that this compares kinds of token, too."
        )
    elif shift.prompt.prefix:
        caveat = "Only the text's own tokens count: the prompt, and position 0 where attention sinks, do not."
    else:
        caveat = "Only the text's own tokens count; no prompt precedes them: the sink at position 0 is an early one."
    return [
        f"Early tokens give the prefix {much} late ones do. Share of their attention, first tenth of the tokens "
        f"against the last: {told['local']}; {where} and {n} texts, each layer's own prefix on unchanged inputs "
        f"(local). {caveat}",
        f"With the layers below re-routed too (propagated): {told['propagated']}.",
    ]


def _moved(shift: AttentionShift) -> list[str]:
    moved, towards = (
        100 * shift.arrays[f"{name}.mean"][-1, 0] for name in ("moved.relative", "final.towards")
    )
    if not np.isfinite([moved[0], moved[-1], towards[0]]).all():
        return []
    return [
        f"Hidden states after the last block move by {moved[0]:.1f} % of their length in the first 1/{shift.bins} of "
        f"the tokens, {moved[-1]:.1f} % in the last; the early ones' move has cosine {towards[0] / 100:.2f} with the "
        "way to the final token's state (1: straight towards it)."
    ]
