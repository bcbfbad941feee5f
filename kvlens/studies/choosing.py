"""Choosing: how to embed with a model, judged by the embeddings themselves.

1. Coarsely, on a fifth of the items: every prompt and pooling without re-routing, every other
   method, and windows of every depth, bias and shield with the prompt that is best without.
2. Finely, on two fifths: the finalists, each with every post-processing.
3. The proof, on the last two fifths: the best with re-routing against the best without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import FITTED, fit
from kvlens.embedding.spec import MethodSpec
from kvlens.layers.route import Route
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
from kvlens.store.progress import Bars, Progress, silent_bar
from kvlens.store.provenance import current_command, versions
from kvlens.studies.comparison import Interval
from kvlens.studies.contenders import (
    GIVEN,
    POOLINGS,
    Contender,
    merged,
    plain_contenders,
    routed,
    rule_routes,
    window_routes,
)
from kvlens.studies.decision import Decision, Judged, Proof, RandomWindow
from kvlens.studies.sweep_vectors import pooled_route_vectors, refuse_unrankable
from kvlens.studies.trials import FEWEST, PairTrial, PassageTrial, Trial
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import Texts
from kvlens.texts.wikipedia import calibration_texts

MOST_PAIRS = (400, 2000, 2000)  # of the three parts
N_FITTED = 300  # calibration texts that post-processing is fitted on
BEST_WINDOW = "best window"
PLAIN_FINALISTS = 4
FINALISTS = 12

Scored = tuple[Contender, float]
"""A contender with its coarse score."""


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


@dataclass(frozen=True)
class _Court:
    """What judges: the model, the limits of its passes, the bars, and what it cannot serve."""

    lm: LanguageModel
    limits: Limits
    bars: Bars
    left_out: list[str] = field(default_factory=list)

    def encoder(self, contender: Contender) -> Encoder | None:
        """The encoder of a contender; None, and noted, where the model cannot serve it."""
        try:
            return contender.spec.encoder(self.lm, limits=self.limits)
        except InputError as error:
            self.left_out.append(f"{contender.spec.text}: {error}")
            return None


@arguments(
    lm=a_model,
    texts=optional(a(Texts, "texts of `kvlens.read_texts` or `kvlens.calibration_texts`")),
    pairs=optional(a(Pairs, "pairs of `kvlens.texts.pairs.read_pairs`")),
    profile=optional(a(IDProfile, "a profile of `kvlens.estimate`")),
    widths=optional(members(whole(least=1), "widths")),
    biases=members(one_bias, "numbers"),
    methods=members(text, "methods"),
    finalists=whole(least=2),
    posts=members(one_of(*FITTED), "names"),
    data=text,
    bars=function,
)
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
    given = [MethodSpec.parse(each) for each in options.pop("methods", ())]
    n_finalists = options.pop("finalists", FINALISTS)
    posts = options.pop("posts", ("zscore",))
    data = options.pop("data", "")
    bars = options.pop("bars", silent_bar)
    court = _Court(lm, Limits.of(options), bars)
    if profile is not None and not profile.model.same_weights(lm.info):
        raise InputError(f"the profile is of {profile.model.name}, not of {lm.info.name}")
    for spec in given:
        spec.encoder(lm, limits=court.limits)
    routes = list(window_routes(lm.info, _widths(lm, widths), biases))
    coarse_trial, fine_trial, proof_trial = _trials(texts, pairs)
    plain, by_window = _coarse(court, coarse_trial, routes)
    finalists = _finalists(plain, by_window, profile, given, n_finalists)
    rows = _fine(court, fine_trial, finalists, (None, *posts), dict(_scores_of(plain, by_window)))
    return Decision(
        model=lm.info,
        kind=fine_trial.kind,
        data=data or _source(texts, pairs),
        n=(coarse_trial.n, fine_trial.n, proof_trial.n),
        n_tried=len(plain) + len(by_window),
        rows=tuple(row for _, row in rows),
        random=tuple(_random_windows(plain, by_window)),
        proof=_proof(court, proof_trial, rows),
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
    first, second, third = parts
    return first, second, third


def _source(texts: Texts | None, pairs: Pairs | None) -> str:
    if pairs is not None:
        return "pairs in Python"
    return (texts or calibration_texts(1)).source


def _coarse(
    court: _Court, trial: Trial, routes: Sequence[Route]
) -> tuple[list[Scored], list[Scored]]:
    """Everything on the first part: without re-routing, and every window."""
    plain = list(_judged_plain(court, trial))
    document = _document_of(_best_plain(plain))
    with court.bars(f"looking at {len(routes)} routes") as progress:
        vectors = pooled_route_vectors(
            court.lm, trial.texts, routes, PROMPTS[document], POOLINGS, court.limits, progress
        )
    windows = []
    for (row, route), (column, pooling) in product(enumerate(routes, 1), enumerate(POOLINGS)):
        items = trial.items(vectors[row, column].numpy())
        score = float(trial.whole(items[None])[0])
        windows.append((routed(route, document, pooling), score))
    return plain, windows


def _judged_plain(court: _Court, trial: Trial) -> Iterator[Scored]:
    for contender in plain_contenders():
        encoder = court.encoder(contender)
        if encoder is None:
            continue
        with court.bars(contender.spec.method_label) as progress:
            items = trial.items(encoder.raw(trial.texts, progress=progress))
        yield contender, float(trial.whole(items[None])[0])


def _best_plain(plain: Iterable[Scored]) -> MethodSpec:
    """The prompt and pooling that are best without re-routing."""
    own = [scored for scored in plain if scored[0].spec.settings]
    return max(own, key=lambda scored: scored[1])[0].spec


def _document_of(spec: MethodSpec) -> str:
    return next(setting.text for setting in spec.settings if setting.name == "document")


def _pooling_of(spec: MethodSpec) -> str:
    return next(setting.text for setting in spec.settings if setting.name == "pooling")


def _finalists(
    plain: Sequence[Scored],
    windows: Sequence[Scored],
    profile: IDProfile | None,
    given: Sequence[MethodSpec],
    n: int,
) -> list[Contender]:
    """The best without re-routing, what rules choose, what was given, then the best windows."""
    ranked = sorted(plain, key=lambda scored: -scored[1])
    chosen = [contender for contender, _ in ranked[:PLAIN_FINALISTS]]
    best = _best_plain(plain)
    chosen += [contender for contender, _ in plain if contender.spec == best]
    chosen += [Contender((GIVEN,), spec, _route_of(spec)) for spec in given]
    if profile is not None:
        document = _document_of(best)
        chosen += [routed(route, document, "hybrid", rule) for rule, route in rule_routes(profile)]
    by_score = sorted(windows, key=lambda scored: -scored[1])
    chosen.append(by_score[0][0].also(BEST_WINDOW))
    seen = {_depth_of(chosen[-1])}
    for contender, _ in by_score[1:]:
        if len(merged(chosen)) >= n:
            break
        if _depth_of(contender) not in seen:  # late ones differ little by bias and shield
            chosen.append(contender)
            seen.add(_depth_of(contender))
    return merged(chosen)


def _depth_of(contender: Contender) -> tuple[tuple[int, ...], str]:
    return (contender.route.layers if contender.route else ()), contender.pooling


def _route_of(spec: MethodSpec) -> Route | None:
    """A mark that a given way re-routes; what it re-routes, its encoder knows."""
    layers = next((each.value for each in spec.settings if each.name == "layers"), ())
    return Route(layers, (1.0,) * len(layers)) if layers else None


def _scores_of(plain: Sequence[Scored], windows: Sequence[Scored]) -> Iterator[tuple[str, float]]:
    for contender, score in (*plain, *windows):
        yield contender.spec.text, score


@dataclass(frozen=True)
class _Finalist:
    """A finalist with one post-processing, and what the fine trial says of it."""

    contender: Contender
    post: str | None
    items: Float[np.ndarray, " n"]
    space: tuple[float, float] | None

    @property
    def is_plain(self) -> bool:
        return self.contender.route is None


def _fine(
    court: _Court,
    trial: Trial,
    finalists: Sequence[Contender],
    posts: Sequence[str | None],
    coarse: dict[str, float],
) -> list[tuple[_Finalist, Judged]]:
    """Every finalist with every post-processing on the second part, the best first."""
    judged = [
        each for contender in finalists for each in _with_posts(court, trial, contender, posts)
    ]
    items = np.stack([each.items for each in judged])
    whole = trial.whole(items)
    resampled = trial.resampled(items)
    order = np.argsort(-whole, kind="stable").tolist()
    best = order[0]
    plain = next(row for row in order if judged[row].is_plain)

    def row_of(row: int) -> Judged:
        each = judged[row]
        return Judged(
            origins=each.contender.origins,
            method=each.contender.spec.text,
            post=each.post,
            layers=each.contender.route.layers if each.contender.route else (),
            coarse=coarse.get(each.contender.spec.text),
            score=Interval.of(whole[row], resampled[row]),
            gain=Interval.of(whole[row] - whole[plain], resampled[row] - resampled[plain]),
            regret=Interval.of(whole[best] - whole[row], resampled[best] - resampled[row]),
            alignment=each.space[0] if each.space else None,
            uniformity=each.space[1] if each.space else None,
        )

    return [(judged[row], row_of(row)) for row in order]


def _with_posts(
    court: _Court, trial: Trial, contender: Contender, posts: Sequence[str | None]
) -> Iterator[_Finalist]:
    encoder = court.encoder(contender)
    if encoder is None:
        return
    with court.bars(contender.spec.method_label) as progress:
        for post, vectors in _post_processed(encoder, trial.texts, posts, progress):
            yield _Finalist(contender, post, trial.items(vectors), trial.space(vectors))


def _post_processed(
    encoder: Encoder, texts: Sequence[str], posts: Sequence[str | None], progress: Progress
) -> Iterator[tuple[str | None, Float[np.ndarray, "n d"]]]:
    """The vectors of texts with each post-processing, fitted on passages of Wikipedia."""
    raw = encoder.raw(texts, progress=progress)
    fitted = encoder.raw(calibration_texts(N_FITTED).items) if any(posts) else raw
    for post in posts:
        if post is None:
            yield post, raw
        else:
            mapped = fit(fitted, post, encoder.signature)(torch.from_numpy(raw))
            yield post, mapped.numpy()


def _proof(court: _Court, trial: Trial, rows: Sequence[tuple[_Finalist, Judged]]) -> Proof:
    """The best with re-routing against the best without, on the third part."""
    places = [
        next(row for row, (each, _) in enumerate(rows) if each.is_plain == is_plain)
        for is_plain in (False, True)
    ]
    items = np.stack([_items_of(court, trial, rows[place][0]) for place in places])
    whole = trial.whole(items)
    resampled = trial.resampled(items)
    return Proof(
        rerouted=places[0],
        plain=places[1],
        rerouted_score=Interval.of(whole[0], resampled[0]),
        plain_score=Interval.of(whole[1], resampled[1]),
        margin=Interval.of(whole[0] - whole[1], resampled[0] - resampled[1]),
    )


def _items_of(court: _Court, trial: Trial, finalist: _Finalist) -> Float[np.ndarray, " n"]:
    (judged,) = _with_posts(court, trial, finalist.contender, (finalist.post,))
    return judged.items


def _random_windows(plain: Sequence[Scored], windows: Sequence[Scored]) -> Iterator[RandomWindow]:
    """By width, bias, shield and pooling: what a window drawn at random gets."""
    document = _document_of(_best_plain(plain))
    without = {
        _pooling_of(contender.spec): score
        for contender, score in plain
        if contender.spec.settings and _document_of(contender.spec) == document
    }
    groups: dict[tuple[int, float, str, str], list[float]] = {}
    for contender, score in windows:
        route = contender.route
        if route is not None:
            kind = (len(route.layers), route.bias[0], route.control.queries, contender.pooling)
            groups.setdefault(kind, []).append(score)
    for (width, bias, queries, pooling), scores in groups.items():
        yield RandomWindow(
            width=width,
            bias=bias,
            queries=queries,
            pooling=pooling,
            n=len(scores),
            mean=float(np.mean(scores)),
            spread=float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
            best=max(scores),
            plain=without[pooling],
        )
