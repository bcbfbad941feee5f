"""Echo: the text twice; the second copy has read the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import Prompt, from_template
from kvlens.texts.tokens import TokenizedText, fitting, tokenize

# The zero-shot form: the model is asked to repeat the text. The fine-tuned models use another.
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
        """Both copies of each text, cut alike: each may have half of the room beside the prompt."""
        before, first, between = prompt.prefix.partition("{first}")
        if not first:
            raise InputError(
                f"echo's prompt needs {{first}} before {{text}}, {prompt.name!r} has none"
            )
        frame = prompt.model_copy(update={"prefix": before + between})
        tokenized = []
        for text in texts:
            cut = fitting(lm.tokenizer, text, frame, max_length, copies=2, strict=strict)
            filled = prompt.model_copy(update={"prefix": before + cut + between})
            (both_copies,) = tokenize(lm.tokenizer, [cut], filled, max_length)
            truncated = len(cut) < len(text)
            tokenized.append(TokenizedText(both_copies.ids, both_copies.span, truncated))
        return tokenized
