"""Padding: how much of the batches is text."""

from __future__ import annotations

from typing import Any

from kvlens.embedding.encoder import BATCH_TOKENS as OF_EMBEDDING
from kvlens.models.language_model import LanguageModel
from kvlens.texts.batches import BUSY_TOKENS, batches
from kvlens.texts.limits import BATCH_TOKENS as OF_RECORDING
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import get_prompt
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import TokenizedText, tokenize
from kvlens.tracing.recorder import BUSY_TOKENS as BUSY_RECORDING


def padding(
    lm: LanguageModel, texts: Texts, prompt: str, limits: Limits, batch_tokens: int | None
) -> list[dict[str, Any]]:
    """The share of real tokens in the batches of embedding and of recording.

    Args:
        lm: the model, whose tokenizer counts.
        texts: equal ones are taken once.
        prompt: around each: its name, or a template.
        limits: how long a text may be.
        batch_tokens: most padded tokens of a batch; None: those of either on a CPU.

    Returns:
        A row for each.
    """
    longest = limits.tokens_for(lm.info.max_positions)
    items = list(dict.fromkeys(texts.items))
    tokenized = tokenize(lm.tokenizer, items, get_prompt(prompt), longest, limits.strict)
    plans = {
        "embedding": (batch_tokens or OF_EMBEDDING, BUSY_TOKENS),
        "recording": (batch_tokens or OF_RECORDING, BUSY_RECORDING),
    }
    return [
        {"measured": f"{what}: real tokens", **_share(tokenized, *plan)}
        for what, plan in plans.items()
    ]


def _share(tokenized: list[TokenizedText], batch_tokens: int, busy_tokens: int) -> dict[str, Any]:
    padded = list(batches(tokenized, None, batch_tokens, busy_tokens=busy_tokens))
    n_real = sum(len(text.ids) for text in tokenized)
    return {
        "texts": len(tokenized),
        "tokens": n_real,
        "batches": len(padded),
        "share": round(n_real / sum(batch.ids.numel() for batch in padded), 3),
    }
