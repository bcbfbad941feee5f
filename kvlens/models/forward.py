"""Forward: the raw base model on a padded batch."""

from __future__ import annotations

from typing import Any

from kvlens.models.language_model import LanguageModel
from kvlens.texts.tokens import TokenBatch


def run_base(lm: LanguageModel, batch: TokenBatch, **options: Any) -> Any:
    """The raw base model on a batch."""
    # Under right padding no real token sees padding, so the causal kernel needs no mask.
    mask = None if bool(batch.mask[:, 0].all()) else batch.mask
    options = {"use_cache": False, **options}
    return lm.base(batch.ids, attention_mask=mask, position_ids=batch.positions, **options)
