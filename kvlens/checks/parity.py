"""Parity: what `record` keeps against raw transformers, one text at a time, on the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kvlens.models.language_model import LanguageModel
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, get_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.raw import raw_states, rotate_raw
from kvlens.tracing.recording import record
from kvlens.tracing.trace import KEEP

CHECK_TEXTS = (
    "a",
    "The cat sat on the mat.",
    "Two sentences are here. The second one is a little longer than the first.",
    "Numbers such as 1,234.5 and symbols (like <b>&amp;</b>) are tokens too; so are naïve words and 日本語.",
    "A river carries stones from the mountains to the sea, and over many years it grinds them into sand. "
    * 3,
)


@dataclass(frozen=True)
class CheckResult:
    """Largest difference per kind, relative to the largest magnitude of that kind in its layer."""

    differences: dict[str, float]
    tolerance: float
    n_texts: int
    model: str

    @property
    def passed(self) -> bool:
        return all(value <= self.tolerance for value in self.differences.values())


def check(
    lm: LanguageModel,
    texts: Texts | Sequence[str] = CHECK_TEXTS,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    tolerance: float | None = None,
) -> CheckResult:
    """Compare recorded hidden states, K (before and after RoPE) and V with raw transformers.

    The recording runs in padded batches, both padding sides, through the bridge; the truth runs unpadded, one text
    at a time: hidden states from the decoder blocks' outputs, K and V from the model's own KV cache, and the key
    before RoPE by rotating what was recorded with the model's own tables and function.
    tolerance: default 2e-4 in float32, 5e-2 in half precisions; the difference is relative to the largest magnitude
    of the same kind and layer, since massive activations make absolute differences meaningless.
    """
    texts = as_texts(texts)
    prompt = get_prompt(prompt) if isinstance(prompt, str) else prompt
    if tolerance is None:
        tolerance = 2e-4 if lm.info.dtype == "float32" else 5e-2
    truth = [
        raw_states(lm, text.ids)
        for text in tokenize(lm.tokenizer, texts.items, prompt, lm.info.max_positions)
    ]
    expected = {kind: torch.stack([one[kind] for one in truth]) for kind in truth[0]}
    worst: dict[str, float] = {}
    for side in ("right", "left"):
        trace = record(lm, texts, prompt, keep=KEEP, padding_side=side, batch_tokens=10**6)
        found = {kind: trace.tensors[kind] for kind in ("hidden", "k", "v")}
        found["k_pre"] = torch.stack(
            [rotate_raw(lm, trace.k_pre[i], trace.n_tokens[i] - 1) for i in range(len(texts))]
        )
        for kind, states in found.items():
            raw = expected["k" if kind == "k_pre" else kind]
            scale = raw.abs().amax(dim=(0, *range(2, raw.ndim)), keepdim=True).clamp(min=1e-12)
            difference = float(((states - raw).abs() / scale).max())
            worst[kind] = max(worst.get(kind, 0.0), difference)
    return CheckResult(worst, tolerance, len(texts), lm.info.name)
