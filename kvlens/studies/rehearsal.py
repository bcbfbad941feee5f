"""Rehearsal: a choice that is gone through without the model, to see what it will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Unpack

import numpy as np
from jaxtyping import Float

from kvlens.dimension.profile import IDProfile
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.planned_pass import PlannedPass
from kvlens.layers.route import Route
from kvlens.models.language_model import LanguageModel
from kvlens.store.checking import arguments
from kvlens.store.progress import Progress, silent_bar
from kvlens.studies.choosing import CHECKS, ChoiceOptions, decided, question_of
from kvlens.studies.contenders import POOLINGS
from kvlens.studies.court import Court, Vectors
from kvlens.texts.limits import Limits
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import Texts

WIDTH = 8  # of vectors that stand for real ones


@dataclass(frozen=True)
class Rehearsal(Court):
    """A court that draws its vectors at random, and notes the passes that real ones would take.

    Attributes:
        passes: what would go through the model, in order; re-routed passes count as whole ones.
    """

    passes: list[PlannedPass] = field(default_factory=list)

    def by_routes(
        self, document: str, routes: Sequence[Route], texts: Sequence[str], progress: Progress
    ) -> Float[np.ndarray, "sets poolings n d"]:
        """Notes the plain pass and one for every route."""
        prompt = PROMPTS[document]
        encoder = Encoder(self.lm, "last_token", document=prompt, **asdict(self.limits))
        n = 1 + len(routes)
        sets = n * len(POOLINGS)
        self.passes.append(PlannedPass([encoder], "document", texts, times=n, sets=sets))
        return self._drawn(n, len(POOLINGS), len(texts))

    def by_encoders(
        self, encoders: Sequence[Encoder], texts: Sequence[str], progress: Progress
    ) -> list[Vectors]:
        """Notes one pass."""
        self.passes.append(PlannedPass(encoders, "document", texts))
        return list(self._drawn(len(encoders), len(texts)))

    def _drawn(self, *shape: int) -> np.ndarray:
        rng = np.random.default_rng(len(self.passes))
        return rng.normal(size=(*shape, WIDTH)).astype(np.float32)


@arguments(**CHECKS)
def expected_passes(
    lm: LanguageModel,
    texts: Texts | None = None,
    pairs: Pairs | None = None,
    profile: IDProfile | None = None,
    widths: Sequence[int] | None = None,
    biases: Sequence[float] = (1.0, 3.0),
    **options: Unpack[ChoiceOptions],
) -> list[PlannedPass]:
    """The passes of `kvlens.choose` with the same arguments, as far as they can be known before.

    How many windows and ways are looked at is known; which of them, chance stands for.

    Args:
        lm: the model.
        texts: as in `choose`.
        pairs: as in `choose`.
        profile: as in `choose`.
        widths: as in `choose`.
        biases: as in `choose`.
        **options: as in `choose`.

    Returns:
        The passes in their order; re-routed ones as whole ones, though they begin at their lowest
        layer.

    Raises:
        InputError: as `choose`.
    """
    question = question_of(options)
    rehearsal = Rehearsal(lm, Limits.of(options), silent_bar)
    decided(rehearsal, texts, pairs, profile, widths, biases, question)
    return rehearsal.passes
