"""Tokens: texts and a prompt -> ids; `batches` makes padded batches of them.

It knows the tokenizer, not the model: how long a text may be is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlens.store.errors import InputError
from kvlens.texts.chat_template import notice_other_template
from kvlens.texts.encoding import Encoding, encode
from kvlens.texts.prompts import Prompt


@dataclass(frozen=True)
class TokenizedText:
    """One prompted text as ids.

    Attributes:
        ids: prompt and text.
        span: token range ``[start, end)`` of the text itself, as prepared, without the prompt.
        truncated: whether the text was cut at its end.
    """

    ids: tuple[int, ...]
    span: tuple[int, int]
    truncated: bool = False


def tokenize(
    tokenizer: Any, texts: Sequence[str], prompt: Prompt, max_length: int, strict: bool = False
) -> list[TokenizedText]:
    """Tokenize prompted texts; special-token strings inside them stay plain text.

    The tokenizer adds what it adds by itself (BOS for Gemma, nothing for SmolLM2); in a chat, the
    template alone says what is added.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: without their prompt.
        prompt: placed around each, which is prepared before where the prompt says so.
        max_length: most tokens, prompt included. A longer text is cut at its end, the prompt
            never; an empty one without a prompt gets the tokenizer's BOS or EOS.
        strict: refuse a longer text instead.

    Returns:
        One per text, in their order.

    Raises:
        InputError: when `strict` and a text is too long, or when the prompt alone does not fit.
    """
    if prompt.chat is not None:
        notice_other_template(tokenizer, prompt.chat)
    tokenized = []
    texts = [prompt.taken(text) for text in texts]
    for text, encoding in zip(texts, encode(tokenizer, texts, prompt), strict=True):
        truncated = len(encoding.ids) > max_length
        if truncated:
            text = fitting(tokenizer, text, prompt, max_length, strict=strict)
            encoding = encode(tokenizer, [text], prompt)[0]
        if not encoding.ids:
            encoding = Encoding([_beginning_or_end(tokenizer)], [(0, 0)])
        span = _span(encoding, prompt, text)
        tokenized.append(TokenizedText(tuple(encoding.ids), span, truncated))
    return tokenized


def _beginning_or_end(tokenizer: Any) -> int:
    """BOS, else EOS, else the first token."""
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return next((token for token in marks if token is not None), 0)


def fitting(
    tokenizer: Any,
    text: str,
    prompt: Prompt,
    max_length: int,
    copies: int = 1,
    strict: bool = False,
) -> str:
    """The longest beginning of `text` that fits.

    Args:
        tokenizer: a fast tokenizer of transformers.
        text: without its prompt, prepared already.
        prompt: placed around it.
        max_length: most tokens, prompt included.
        copies: how many times the text has to fit in.
        strict: refuse a text that has to be cut.

    Returns:
        `text`, or its beginning.

    Raises:
        InputError: when `strict` and the whole does not fit, or when the prompt alone does not.
    """
    n_characters = len(text)
    while True:
        encoding = encode(tokenizer, [text], prompt)[0]
        start, end = _span(encoding, prompt, text)
        excess = len(encoding.ids) + (copies - 1) * (end - start) - max_length
        if excess <= 0:
            return text
        if strict:
            raise InputError(
                f"a text of {n_characters} characters has {excess} tokens too many "
                f"for the limit of {max_length}: shorten it, or leave out `strict` to truncate"
            )
        if not text:
            raise InputError(f"the prompt alone does not fit into {max_length} tokens")
        # Cutting can change how the rest is tokenized, so what is still too long is cut again.
        kept = max(end - start - -(-excess // copies), 0)
        shorter = 0
        if start < end:
            shorter = encoding.offsets[start + kept][0] - len(prompt.opening)
        text = text[: max(min(shorter, len(text) - 1), 0)]


def _span(encoding: Encoding, prompt: Prompt, text: str) -> tuple[int, int]:
    """Tokens that overlap `text` in the rendered prompt; an empty range at the end if none do."""
    start = len(prompt.opening)
    end = start + len(text)
    inside = [
        token
        for token, (first, after) in enumerate(encoding.offsets)
        if first < after and first < end and after > start
    ]
    if inside:
        return inside[0], inside[-1] + 1
    return len(encoding.offsets), len(encoding.offsets)
