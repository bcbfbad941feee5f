"""Court: what judges the contenders of a choice; one model, its limits, what it cannot serve."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvlens.embedding.encoder import Encoder
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.store.progress import Bars
from kvlens.studies.contenders import Contender
from kvlens.texts.limits import Limits


@dataclass(frozen=True)
class Court:
    """What judges.

    Attributes:
        lm: the model.
        limits: of its passes.
        bars: what is being done -> a context that gives its progress.
        left_out: what the model cannot serve, and why.
    """

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
