"""Echo: the text twice; the second copy has read the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import Prompt, from_template
from kvlens.texts.tokens import TokenizedText, fitting, tokenize

# The zero-shot form: the model is asked to repeat the text. The released fine-tuned models use another.
_PROMPT = from_template(
    "Rewrite the sentence: {first}, rewritten sentence: {text}", "echo", "arXiv:2402.15449"
)


@dataclass(frozen=True)
class Echo(Method):
    """Springer et al. 2024: mean over the second copy's tokens. Twice the tokens.

    The prompt holds what stands before the second copy; its ``{first}`` becomes the first copy.
    """

    name = "echo"
    source = "arXiv:2402.15449"
    query: Prompt = _PROMPT
    document: Prompt = _PROMPT
    pooling: str = "text_mean"

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        result = []
        before, mark, between = prompt.prefix.partition("{first}")
        if not mark:
            raise InputError(
                f"echo's prompt needs {{first}} before {{text}}, {prompt.name!r} has none"
            )
        whole = Prompt(name=prompt.name, prefix=before + between, suffix=prompt.suffix)
        for text in texts:
            # Both copies are cut alike: each may have half of the room that the prompt leaves.
            cut = fitting(lm.tokenizer, text, whole, max_length, copies=2, strict=strict)
            filled = Prompt(name=prompt.name, prefix=before + cut + between, suffix=prompt.suffix)
            (one,) = tokenize(lm.tokenizer, [cut], filled, max_length)
            result.append(TokenizedText(one.ids, one.span, truncated=len(cut) < len(text)))
        return result
