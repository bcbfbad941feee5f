"""Tokens: texts and a prompt -> ids; length-sorted padded batches that know each text's final real token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kvlens.store.errors import InputError
from kvlens.texts.prompts import Prompt


@dataclass(frozen=True)
class TokenizedText:
    """Ids of one prompted text. span: token range ``[start, end)`` of the text itself, without the prompt."""

    ids: tuple[int, ...]
    span: tuple[int, int]
    truncated: bool = False


@dataclass(frozen=True)
class TokenBatch:
    """A padded batch.

    rows: positions of its texts in the input, int64 ``[batch]``. ids, mask, positions: int64
    ``[batch, seq_len]``, mask 1 on real tokens, positions counted over them. last: index of the final real
    token, int64 ``[batch]``. text_mask: bool ``[batch, seq_len]``, the text's own tokens.
    """

    rows: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    last: torch.Tensor
    text_mask: torch.Tensor


def tokenize(
    tokenizer: Any, texts: Sequence[str], prompt: Prompt, max_length: int, strict: bool = False
) -> list[TokenizedText]:
    """Tokenize prompted texts; special-token strings inside them stay plain text.

    The tokenizer adds what it adds by itself (BOS for Gemma, nothing for SmolLM2). A text that does not fit
    into `max_length` tokens is cut at its end, the prompt never; an empty one gets the tokenizer's BOS or EOS.
    Raises InputError when `strict` and a text is too long, or when the prompt alone does not fit.
    """
    result: list[TokenizedText] = []
    for text, (ids, offsets) in zip(texts, _encode(tokenizer, texts, prompt), strict=True):
        cut, truncated = text, len(ids) > max_length
        if truncated:
            cut = fitting(tokenizer, text, prompt, max_length, strict=strict)
            ids, offsets = _encode(tokenizer, [cut], prompt)[0]
        if not ids:
            fallback = [tokenizer.bos_token_id, tokenizer.eos_token_id, 0]
            ids, offsets = [next(i for i in fallback if i is not None)], [(0, 0)]
        result.append(TokenizedText(tuple(ids), _span(offsets, prompt, cut), truncated))
    return result


def fitting(
    tokenizer: Any,
    text: str,
    prompt: Prompt,
    max_length: int,
    copies: int = 1,
    strict: bool = False,
) -> str:
    """The longest beginning of `text` of which `copies` fit into `max_length` tokens with the prompt.

    Raises InputError when `strict` and the whole text does not fit, or when the prompt alone does not.
    """
    whole = len(text)
    while True:
        ids, offsets = _encode(tokenizer, [text], prompt)[0]
        start, end = _span(offsets, prompt, text)
        excess = len(ids) + (copies - 1) * (end - start) - max_length
        if excess <= 0:
            return text
        if strict:
            raise InputError(
                f"a text of {whole} characters has {excess} tokens too many for the limit of {max_length}: "
                "shorten it, or leave out --strict to truncate"
            )
        if not text:
            raise InputError(f"the prompt alone does not fit into {max_length} tokens")
        # Cutting can change how the rest is tokenized, so what is still too long is cut again.
        kept = max(end - start - -(-excess // copies), 0)
        shorter = offsets[start + kept][0] - len(prompt.prefix) if start < end else 0
        text = text[: max(min(shorter, len(text) - 1), 0)]


def _encode(
    tokenizer: Any, texts: Sequence[str], prompt: Prompt
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    if not texts:
        return []
    encoded = tokenizer(
        [prompt.render(text) for text in texts],
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _span(offsets: Sequence[tuple[int, int]], prompt: Prompt, text: str) -> tuple[int, int]:
    """Token range that overlaps the characters of `text` inside the rendered prompt; empty at the end if none."""
    start, end = len(prompt.prefix), len(prompt.prefix) + len(text)
    inside = [i for i, (a, b) in enumerate(offsets) if b > start and a < end and b > a]
    return (inside[0], inside[-1] + 1) if inside else (len(offsets), len(offsets))


def batches(
    tokenized: Sequence[TokenizedText],
    pad_id: int | None,
    batch_tokens: int = 2048,
    batch_size: int | None = None,
    side: str = "right",
    device: torch.device | str = "cpu",
    busy_tokens: int = 256,
) -> Iterator[TokenBatch]:
    """Yield padded batches, longest texts first, of at most `batch_tokens` padded tokens (at least one text).

    A batch of `busy_tokens` or more is also closed before a text that is a tenth shorter: padding costs as much as
    text, a further forward pass little.
    """
    order = sorted(range(len(tokenized)), key=lambda i: (-len(tokenized[i].ids), i))
    start = 0
    while start < len(order):
        width = len(tokenized[order[start]].ids)
        end = start + 1
        while end < len(order) and end - start < (batch_size or len(order)):
            busy = (end - start) * width >= busy_tokens
            if (end - start + 1) * width > batch_tokens or (
                busy and len(tokenized[order[end]].ids) < 0.9 * width
            ):
                break
            end += 1
        rows = order[start:end]
        yield pad([tokenized[i] for i in rows], rows, pad_id, side, device)
        start = end


def pad(
    texts: Sequence[TokenizedText],
    rows: Sequence[int],
    pad_id: int | None,
    side: str = "right",
    device: torch.device | str = "cpu",
) -> TokenBatch:
    """Pad tokenized texts to one batch, on `side` ("left" or "right")."""
    width = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), width), pad_id or 0)
    mask = torch.zeros_like(ids)
    text_mask = torch.zeros_like(ids, dtype=torch.bool)
    last = torch.empty(len(texts), dtype=torch.long)
    for row, text in enumerate(texts):
        first = width - len(text.ids) if side == "left" else 0
        last[row] = first + len(text.ids) - 1
        ids[row, first : last[row] + 1] = torch.tensor(text.ids)
        mask[row, first : last[row] + 1] = 1
        text_mask[row, first + text.span[0] : first + text.span[1]] = True
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    tensors = (torch.tensor(rows), ids, mask, positions, last, text_mask)
    return TokenBatch(*(tensor.to(device) for tensor in tensors))


def position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Positions counted over real tokens only: ``[batch, seq_len]`` int64, 0 on leading padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
