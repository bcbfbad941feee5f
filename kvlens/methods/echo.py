"""Echo: the text twice; the second copy has read the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvlens.methods.base import Method
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS, Prompt
from kvlens.texts.tokens import TokenizedText, fitting, tokenize

# The zero-shot form: the model is asked to repeat the text. The fine-tuned models use another, and
# four independent sources agree on this one for MTEB.
_PROMPT = PROMPTS["echo-paragraph"]


@dataclass(frozen=True)
class Echo(Method):
    """Springer et al. 2024: mean over the second copy's tokens. Twice the tokens.

    The prompt holds what stands before the second copy; its ``{first}`` becomes the first copy.
    Another wording of the zero-shot form is called ``echo-sentence``.
    """

    name = "echo"
    paper = "arXiv:2402.15449"
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
        plain = prompt.prepares(False)  # of a text that is prepared before it is cut
        frame = plain.model_copy(update={"prefix": before + between})
        tokenized = []
        for text in map(prompt.taken, texts):
            cut = fitting(lm.tokenizer, text, frame, max_length, copies=2, strict=strict)
            filled = plain.model_copy(update={"prefix": before + cut + between})
            (both_copies,) = tokenize(lm.tokenizer, [cut], filled, max_length)
            truncated = len(cut) < len(text)
            tokenized.append(TokenizedText(both_copies.ids, both_copies.span, truncated))
        return tokenized
