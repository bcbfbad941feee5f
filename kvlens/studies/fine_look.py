"""Fine look: the finalists with every post-processing, and the proof of the best two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from kvlens.embedding.post import Post, fit
from kvlens.studies.comparison import Interval
from kvlens.studies.contenders import Contender, merged
from kvlens.studies.court import Court, Vectors
from kvlens.studies.decision import Judged, Proof
from kvlens.studies.trials import Trial
from kvlens.texts.wikipedia import calibration_texts

N_FITTED = 300  # calibration texts that post-processing is fitted on


@dataclass(frozen=True)
class Finalist:
    """A finalist with one post-processing, and what the fine trial says of it."""

    contender: Contender
    post: Post | None
    items: Float[np.ndarray, " n"]
    space: tuple[float, float] | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is re-routed."""
        return not self.contender.layers


def fine(
    court: Court,
    trial: Trial,
    finalists: Sequence[Contender],
    posts: Sequence[str | None],
    coarse: dict[str, float],
) -> list[tuple[Finalist, Judged]]:
    """Every finalist with every post-processing on the second part, the best first."""
    judged = list(_judged(court, trial, finalists, posts))
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
            post=each.post.kind if each.post else None,
            layers=each.contender.layers,
            coarse=coarse.get(each.contender.spec.text),
            score=Interval.of(whole[row], resampled[row]),
            gain=Interval.of(whole[row] - whole[plain], resampled[row] - resampled[plain]),
            regret=Interval.of(whole[best] - whole[row], resampled[best] - resampled[row]),
            alignment=each.space[0] if each.space else None,
            uniformity=each.space[1] if each.space else None,
        )

    return [(judged[row], row_of(row)) for row in order]


def _judged(
    court: Court, trial: Trial, finalists: Sequence[Contender], posts: Sequence[str | None]
) -> Iterator[Finalist]:
    """Every finalist with each post-processing, fitted on passages of Wikipedia."""
    fitted: dict[str, Vectors] = {}
    if any(posts):
        calibration = calibration_texts(N_FITTED).items
        fitted = {each.spec.text: found for each, found in court.embedded(finalists, calibration)}
    for contender, vectors in court.embedded(finalists, trial.texts):
        for kind in posts:
            post = None if kind is None else fit(fitted[contender.spec.text], kind)
            processed = _processed(vectors, post)
            yield Finalist(contender, post, trial.items(processed), trial.space(processed))


def _processed(vectors: Vectors, post: Post | None) -> Float[np.ndarray, "n k"]:
    return vectors if post is None else post(torch.from_numpy(vectors)).numpy()


def prove(court: Court, trial: Trial, rows: Sequence[tuple[Finalist, Judged]]) -> Proof:
    """The best with re-routing against the best without, on the third part."""
    places = [
        next(row for row, (each, _) in enumerate(rows) if each.is_plain == is_plain)
        for is_plain in (False, True)
    ]
    best = [rows[place][0] for place in places]
    vectors = {
        each.spec.text: found
        for each, found in court.embedded(merged(each.contender for each in best), trial.texts)
    }
    items = np.stack(
        [trial.items(_processed(vectors[each.contender.spec.text], each.post)) for each in best]
    )
    whole = trial.whole(items)
    resampled = trial.resampled(items)
    return Proof(
        rerouted=places[0],
        plain=places[1],
        rerouted_score=Interval.of(whole[0], resampled[0]),
        plain_score=Interval.of(whole[1], resampled[1]),
        margin=Interval.of(whole[0] - whole[1], resampled[0] - resampled[1]),
    )
