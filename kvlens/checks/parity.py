"""Parity: what `record` keeps against raw transformers, on the model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import arguments, optional, real
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.raw import raw_states
from kvlens.tracing.recording import record
from kvlens.tracing.sourcing import relative_difference, source_of, tolerance_of
from kvlens.tracing.trace import KEEP

CHECK_TEXTS = (
    "a",
    "The cat sat on the mat.",
    "Two sentences are here. The second one is a little longer than the first.",
    "Numbers such as 1,234.5 and symbols (like <b>&amp;</b>) are tokens too; "
    "so are naïve words and 日本語.",
    "A river carries stones from the mountains to the sea, "
    "and over many years it grinds them into sand. " * 3,
)

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

    The recording runs in padded batches, both padding sides, through the bridge where that shows
    the states; the truth runs unpadded, one text at a time, through raw transformers: hidden states
    from the decoder blocks' outputs, keys and values from the attention modules' own calls, and the
    key before RoPE from a call without rotation.

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
        tolerance = tolerance_of(lm)
    truth = _truth(lm, texts, prompt)
    worst: dict[str, float] = {}
    for side in source_of(lm).sides:
        trace = record(lm, texts, prompt, keep=KEEP, padding_side=side, batch_tokens=ONE_BATCH)
        for name, expected in truth.items():
            kind, layer = name.split(".")
            states = torch.from_numpy(trace.states(int(layer), kind))
            difference = relative_difference(states, expected.flatten(1))
            worst[kind] = max(worst.get(kind, 0.0), difference)
    return CheckResult(worst, tolerance, len(texts), lm.info.name)


def _truth(lm: LanguageModel, texts: Texts, prompt: Prompt) -> dict[str, Tensor]:
    """Kind and layer, as in ``k.3`` -> states of all texts, from raw transformers."""
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, lm.info.max_positions)
    by_text = [raw_states(lm, text.ids) for text in tokenized]
    return {name: torch.stack([states[name] for states in by_text]) for name in by_text[0]}
