"""Choosing: how to embed with a model, judged by the embeddings themselves.

1. Coarsely, on a fifth of the items: every prompt and pooling without re-routing, every other
   method, and windows of every depth, bias and shield with the prompt that is best without; of
   these all on a quarter of the fifth, and the best quarter on all of it.
2. Finely, on two fifths: the finalists, each with every post-processing.
3. The proof, on the last two fifths: the best with re-routing against the best without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Unpack

import numpy as np

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.post import FITTED
from kvlens.embedding.spec import MethodSpec
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import (
    a,
    arguments,
    function,
    members,
    one_bias,
    optional,
    text,
    whole,
)
from kvlens.store.checking import choice as one_of
from kvlens.store.errors import InputError
from kvlens.store.progress import Bars, silent_bar
from kvlens.store.provenance import current_command, versions
from kvlens.studies.coarse_look import choose_finalists, coarse
from kvlens.studies.contenders import window_routes
from kvlens.studies.court import Court
from kvlens.studies.decision import Decision
from kvlens.studies.fine_look import fine, prove
from kvlens.studies.pair_trial import PairTrial
from kvlens.studies.passage_trial import PassageTrial
from kvlens.studies.sweep_vectors import refuse_unrankable
from kvlens.studies.trials import FEWEST, Trial
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.texts import Texts
from kvlens.texts.wikipedia import calibration_texts

MOST_PAIRS = (400, 2000, 2000)  # of the three parts
FINALISTS = 12


class ChoiceOptions(LimitOptions, total=False):
    """Further keywords of `choose`.

    Attributes:
        methods: further ways to embed that become finalists, as `kvlens.evaluate` takes them.
        finalists: how many ways are judged finely; given ones and those of rules count.
        posts: the post-processing that each is tried with, beside none.
        data: where the pairs come from.
        bars: what is being done -> a context that gives its progress.
    """

    methods: Sequence[str]
    finalists: int
    posts: Sequence[str]
    data: str
    bars: Bars


CHECKS = {
    "lm": a_model,
    "texts": optional(a(Texts, "texts of `kvlens.read_texts` or `kvlens.calibration_texts`")),
    "pairs": optional(a(Pairs, "pairs of `kvlens.texts.pairs.read_pairs`")),
    "profile": optional(a(IDProfile, "a profile of `kvlens.estimate`")),
    "widths": optional(members(whole(least=1), "widths")),
    "biases": members(one_bias, "numbers"),
    "methods": members(text, "methods"),
    "finalists": whole(least=2),
    "posts": members(one_of(*FITTED), "names"),
    "data": text,
    "bars": function,
}


@arguments(**CHECKS)
def choose(
    lm: LanguageModel,
    texts: Texts | None = None,
    pairs: Pairs | None = None,
    profile: IDProfile | None = None,
    widths: Sequence[int] | None = None,
    biases: Sequence[float] = (1.0, 3.0),
    **options: Unpack[ChoiceOptions],
) -> Decision:
    """How to embed with a model: method, prompt, post-processing, and layers or none.

    Without pairs no label is needed: see `kvlens.studies.trials.PassageTrial` for what is asked.
    What is chosen on pairs must be proven on others; the proof here is of the same file.

    Args:
        lm: the model.
        texts: passages of several articles, see `PassageTrial.parts`; default 400 of Wikipedia.
        pairs: with their human scores, which then judge.
        profile: of the model: what each rule chooses becomes a finalist.
        widths: of the windows; default that of the rules.
        biases: of the re-routed column.
        **options: the limits, see `kvlens.texts.limits.Limits`; and see `ChoiceOptions`.

    Returns:
        The decision.

    Raises:
        InputError: for both texts and pairs, too few of them, a profile of another model, and a
            model of which no layer can be re-routed.
    """
    bars = options.pop("bars", silent_bar)
    question = question_of(options)
    court = Court(lm, Limits.of(options), bars)
    return decided(court, texts, pairs, profile, widths, biases, question)


@dataclass(frozen=True)
class Question:
    """What is asked beside profile, widths and biases, see `ChoiceOptions`."""

    methods: Sequence[str] = ()
    finalists: int = FINALISTS
    posts: Sequence[str] = ("zscore",)
    data: str = ""


def question_of(options: ChoiceOptions) -> Question:
    """Take the question out of the options; the limits are left."""
    asked: dict[str, Any] = dict(options)
    names = [each.name for each in fields(Question) if each.name in asked]
    for name in names:
        options.pop(name)  # type: ignore[misc]
    return Question(**{name: asked[name] for name in names})


def decided(
    court: Court,
    texts: Texts | None,
    pairs: Pairs | None,
    profile: IDProfile | None,
    widths: Sequence[int] | None,
    biases: Sequence[float],
    question: Question,
) -> Decision:
    """The decision of a court; arguments as those of `choose`."""
    lm = court.lm
    given = [MethodSpec.parse(each) for each in question.methods]
    if profile is not None and not profile.model.same_weights(lm.info):
        raise InputError(f"the profile is of {profile.model.name}, not of {lm.info.name}")
    for spec in given:
        spec.encoder(lm, limits=court.limits)
    routes = list(window_routes(lm.info, _widths(lm, widths), biases))
    coarse_trial, fine_trial, proof_trial = _trials(texts, pairs)
    look = coarse(court, coarse_trial, routes)
    finalists = choose_finalists(look, profile, given, question.finalists)
    rows = fine(court, fine_trial, finalists, (None, *question.posts), look.scores())
    return Decision(
        model=lm.info,
        kind=fine_trial.kind,
        data=question.data or _source(texts, pairs),
        n=(coarse_trial.n, fine_trial.n, proof_trial.n),
        n_tried=look.n_tried,
        rows=tuple(row for _, row in rows),
        random=look.random,
        proof=prove(court, proof_trial, rows),
        left_out=tuple(dict.fromkeys(court.left_out)),
        versions=versions(),
        command=current_command() or None,
    )


def _widths(lm: LanguageModel, widths: Sequence[int] | None) -> tuple[int, ...]:
    able = lm.info.layers_to_reroute()
    if not able:
        raise InputError(f"no layer of {lm.info.name} can be re-routed: there is nothing to choose")
    return tuple(widths) if widths else (min(1 + lm.info.n_layers // 10, len(able)),)


def _trials(texts: Texts | None, pairs: Pairs | None) -> tuple[Trial, Trial, Trial]:
    """The three parts of what judges."""
    if texts is not None and pairs is not None:
        raise InputError("`texts` and `pairs` both judge: give one of them")
    parts: list[Trial]
    if pairs is not None:
        refuse_unrankable(pairs)
        parts = list(PairTrial.parts(pairs, MOST_PAIRS))
    else:
        passages = texts or calibration_texts(400)
        parts = list(PassageTrial.parts(passages, (passages.n,) * 3))
    n = sum(part.n for part in parts)
    if n < FEWEST:
        raise InputError(f"{n} {parts[0].kind} judge, at least {FEWEST} are needed: give more")
    for part in parts:
        _refuse_equal_scores(part)
    first, second, third = parts
    return first, second, third


def _refuse_equal_scores(part: Trial) -> None:
    if isinstance(part, PairTrial) and np.ptp(part.pairs.scores) == 0:
        raise InputError(
            f"{part.n} of the `pairs`, evenly spread, judge by themselves, and all have one score: "
            "give more, or in another order"
        )


def _source(texts: Texts | None, pairs: Pairs | None) -> str:
    if pairs is not None:
        return "pairs in Python"
    return (texts or calibration_texts(1)).source
