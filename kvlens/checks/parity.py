"""Parity: what `record` keeps against raw transformers, on the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import arguments, optional, real
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.raw import raw_states, rotate_raw
from kvlens.tracing.recording import record
from kvlens.tracing.trace import KEEP, Trace

CHECK_TEXTS = (
    "a",
    "The cat sat on the mat.",
    "Two sentences are here. The second one is a little longer than the first.",
    "Numbers such as 1,234.5 and symbols (like <b>&amp;</b>) are tokens too; "
    "so are naïve words and 日本語.",
    "A river carries stones from the mountains to the sea, "
    "and over many years it grinds them into sand. " * 3,
)

FLOAT32_TOLERANCE = 2e-4
HALF_TOLERANCE = 5e-2
SMALLEST_SCALE = 1e-12
ONE_BATCH = 10**6  # tokens


@dataclass(frozen=True)
class CheckResult:
    """How far the recording is from raw transformers.

    Attributes:
        differences: kind -> largest difference, relative to the largest magnitude of that kind in
            its layer.
        tolerance: the largest difference that passes.
        n_texts: how many texts were compared.
        model: its name.
    """

    differences: dict[str, float]
    tolerance: float
    n_texts: int
    model: str

    @property
    def passed(self) -> bool:
        """Whether every kind is within the tolerance."""
        return all(value <= self.tolerance for value in self.differences.values())


@arguments(lm=a_model, tolerance=optional(real(least=0)))
def check(
    lm: LanguageModel,
    texts: Texts | Sequence[str] = CHECK_TEXTS,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    tolerance: float | None = None,
) -> CheckResult:
    """Compare recorded hidden states, K (before and after RoPE) and V with raw transformers.

    The recording runs in padded batches, both padding sides, through the bridge; the truth runs
    unpadded, one text at a time: hidden states from the decoder blocks' outputs, K and V from the
    model's own KV cache, and the key before RoPE by rotating what was recorded with the model's own
    tables and function.

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: a prompt, its name or a template.
        tolerance: default 2e-4 in float32, 5e-2 in half precisions; of a difference relative to the
            largest magnitude of the same kind and layer, since massive activations make absolute
            differences meaningless.

    Returns:
        The largest differences.

    Raises:
        InputError: as `record`.
    """
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    if tolerance is None:
        tolerance = FLOAT32_TOLERANCE if lm.info.dtype == "float32" else HALF_TOLERANCE
    truth = _truth(lm, texts, prompt)
    worst: dict[str, float] = {}
    for side in ("right", "left"):
        trace = record(lm, texts, prompt, keep=KEEP, padding_side=side, batch_tokens=ONE_BATCH)
        for kind, states in _recorded(lm, trace).items():
            difference = _relative_difference(states, truth[kind])
            worst[kind] = max(worst.get(kind, 0.0), difference)
    return CheckResult(worst, tolerance, len(texts), lm.info.name)


States = Float[Tensor, "n_texts n_layers *width"]


def _truth(lm: LanguageModel, texts: Texts, prompt: Prompt) -> dict[str, States]:
    """States by kind, from raw transformers; both kinds of recorded keys are held against K."""
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, lm.info.max_positions)
    by_text = [raw_states(lm, text.ids) for text in tokenized]
    truth = {kind: torch.stack([states[kind] for states in by_text]) for kind in by_text[0]}
    return {**truth, "k_pre": truth["k"]}


def _recorded(lm: LanguageModel, trace: Trace) -> dict[str, States]:
    """Recorded states by kind; the keys before RoPE are rotated as the model does it."""
    rotated = [
        rotate_raw(lm, keys, position=n_tokens - 1)
        for keys, n_tokens in zip(trace.k_pre, trace.n_tokens, strict=True)
    ]
    kinds = {kind: trace.tensors[kind] for kind in ("hidden", "k", "v")}
    return {**kinds, "k_pre": torch.stack(rotated)}


def _relative_difference(states: States, truth: States) -> float:
    """The largest difference, relative to the largest magnitude in the same layer."""
    all_but_layers = (0, *range(2, truth.ndim))
    scale = truth.abs().amax(dim=all_but_layers, keepdim=True).clamp(min=SMALLEST_SCALE)
    return float(((states - truth).abs() / scale).max())
