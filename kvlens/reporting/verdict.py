"""Verdict: the findings of a run in sentences, each number out of its results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvlens.analysis.attention import KINDS, AttentionShift
from kvlens.analysis.method_geometry import PLAIN, Geometry
from kvlens.analysis.word_lens import WordLens, WordShare
from kvlens.embedding.spec import REFERENCE
from kvlens.evaluation.score import Score
from kvlens.evaluation.scores import Scores
from kvlens.reporting.run_folder import Run
from kvlens.store.layer_ranges import phrase


def verdict(run: Run) -> list[str]:
    """The findings of a run.

    Args:
        run: what a run folder holds; what it lacks is passed over.

    Returns:
        Plain sentences, doubts first.
    """
    sentences = _doubts(run)
    if run.shift:
        sentences += _uptake(run.shift)
        sentences += _movement(run.shift)
    if run.geometry:
        sentences += _isotropy(run.geometry)
    if run.words:
        sentences += _words(run.words, run.layers.layers)
    if run.scores:
        sentences += _best_scores(run.scores)
    return sentences


def _doubts(run: Run) -> list[str]:
    sentences = []
    warnings = run.layers.warnings
    if warnings:
        more = f" ({len(warnings)} warnings in all, below)" if len(warnings) > 1 else ""
        sentences.append(f"Read the choice with care: {warnings[0]}{more}.")
    if run.layers.profile != run.profile:
        sentences.append("profile.json is not the profile that these layers were chosen from.")
    return sentences


def _uptake(shift: AttentionShift) -> list[str]:
    """How much of their attention early and late tokens give the prefix."""
    local, propagated = (_ends_by_text(shift, kind) for kind in KINDS)
    if not len(local) or not len(propagated):
        return ["No text has a token of its own, so that there is no uptake to tell."]
    heads = f"mean over {phrase(shift.layers)}, {shift.model.n_heads} heads"
    return [
        f"Early tokens give the prefix {_compared(local)} late ones do. "
        "Share of their attention, first tenth of the tokens against the last: "
        f"{_ends_words(local)}; {heads} and {len(local)} texts, "
        f"each layer's own prefix on unchanged inputs (local). {_caveat(shift)}",
        f"With the layers below re-routed too (propagated): {_ends_words(propagated)}.",
    ]


def _ends_by_text(shift: AttentionShift, kind: str) -> np.ndarray:
    """Mean uptake in the first and the last tenth in per cent, [texts with own tokens, 2]."""
    percent = 100 * shift.arrays[f"ends.{kind}"].astype(np.float64).mean((2, 3))
    return percent[np.isfinite(percent).all(1)]


def _half_interval(steps: np.ndarray) -> float:
    """Half the 95 % interval of a mean over texts, by the normal law; infinite for one text."""
    if len(steps) < 2:
        return np.inf
    return 1.96 * steps.std(ddof=1) / np.sqrt(len(steps))


def _compared(ends: np.ndarray) -> str:
    steps = ends[:, 1] - ends[:, 0]
    step = steps.mean()
    if abs(step) <= _half_interval(steps):
        return "as much, within error, as"
    return "less than" if step > 0 else "more than"


def _ends_words(ends: np.ndarray) -> str:
    early, late = ends.mean(0)
    steps = ends[:, 1] - ends[:, 0]
    difference = f"difference {steps.mean():+.1f} points"
    if len(steps) > 1:
        difference += f", 95 % interval ± {_half_interval(steps):.1f}"
    return f"{early:.1f} % against {late:.1f} % ({difference})"


def _caveat(shift: AttentionShift) -> str:
    """Which tokens were counted, and what that does to the comparison."""
    if shift.span == "prompted":
        return (
            "Counted over prompt and text: the first tenth holds position 0, the attention sink, "
            "and the prompt's opening, the last tenth the prompt's end, so that this compares "
            "kinds of token, too."
        )
    if shift.prompt.opening:
        return (
            "Only the text's own tokens count: the prompt, and position 0 where attention sinks, "
            "do not."
        )
    return (
        "Only the text's own tokens count; no prompt precedes them: the sink at position 0 is an "
        "early one."
    )


def _movement(shift: AttentionShift) -> list[str]:
    """How far re-routing moves hidden states after the last block, early and late."""
    if not {"moved.relative.mean", "final.towards.mean"} <= shift.arrays.keys():
        return []
    last_block = (-1, 0)
    percent = 100 * shift.arrays["moved.relative.mean"][last_block]
    early = percent[0]
    late = percent[-1]
    cosine = shift.arrays["final.towards.mean"][last_block][0]
    if not np.isfinite([early, late, cosine]).all():
        return []
    return [
        f"Hidden states after the last block move by {early:.1f} % of their length in the first "
        f"1/{shift.bins} of the tokens, {late:.1f} % in the last; the early ones' move has "
        f"cosine {cosine:.2f} with the way to the final token's state (1: straight towards it)."
    ]


def _isotropy(geometry: Geometry) -> list[str]:
    rows = {row.label: row for row in geometry.methods}
    if PLAIN not in rows or REFERENCE not in rows:
        return []
    rerouted = rows[REFERENCE].mean_cosine
    plain = rows[PLAIN].mean_cosine
    return [
        f"Embeddings of {geometry.n} texts have a mean cosine of {rerouted:.3f} with re-routing "
        f"and {plain:.3f} with the same prompt and pooling without it "
        "(0: directions spread evenly; 1: all the same)."
    ]


def _words(lens: WordLens, rerouted: Sequence[int]) -> list[str]:
    """How much of the text the embedding and the re-routed values name."""
    named = [
        *lens.shares_of("embedding", centred=True),
        *(each for each in lens.shares_of("v", centred=True) if each.layer in rerouted),
    ]
    parts = [_named(lens, share) for share in named if share.gain is not None]
    if not parts:
        return []
    return [
        f"In words, own ones of the text among the {lens.top} tokens that a state favours, above "
        f"another text's: {', '.join(parts)}; {lens.texts.n} texts, states less their mean."
    ]


def _named(lens: WordLens, share: WordShare) -> str:
    where = "the embedding" if share.layer is None else f"V of layer {share.layer}"
    return f"{where} {share.gain:+.2f} ± {lens.half_interval(share):.2f}"


def _best_scores(scores: Scores) -> list[str]:
    tasks = dict.fromkeys(score.task for score in scores.scores)
    return [
        _best_of_task(task, [score for score in scores.scores if score.task == task])
        for task in tasks
    ]


def _best_of_task(task: str, scores: list[Score]) -> str:
    best = max(scores, key=lambda score: score.value)
    quick = " (a quick look at a part of the task)" if best.limited else ""
    reference = next((score for score in scores if score.label == REFERENCE), None)
    rerouted = f"{_score_words(reference)}; " if reference else ""
    return f"{task}{quick}: {rerouted}best of {len(scores)} is {best.label} with {best.value:.1f}."


def _score_words(score: Score) -> str:
    return f"{score.label} scores {score.value:.1f} ({score.low:.1f} to {score.high:.1f})"
