"""Tokens: texts and a prompt -> ids; ids -> padded batches that know each final real token.

It knows the tokenizer, not the model: how long a text may be is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from kvlens.store.errors import InputError, one_line
from kvlens.store.sharing import lock_of
from kvlens.texts.limits import BATCH_TOKENS
from kvlens.texts.prompts import Prompt

# A pass over fewer tokens is hardly cheaper, so smaller batches are filled up with shorter texts.
BUSY_TOKENS = 256
MUCH_SHORTER = 0.9  # of the longest text in the batch: padding it costs more than a further pass


@dataclass(frozen=True)
class TokenizedText:
    """One prompted text as ids.

    Attributes:
        ids: prompt and text.
        span: token range ``[start, end)`` of the text itself, without the prompt.
        truncated: whether the text was cut at its end.
    """

    ids: tuple[int, ...]
    span: tuple[int, int]
    truncated: bool = False


@dataclass(frozen=True)
class TokenBatch:
    """A padded batch.

    Attributes:
        rows: positions of its texts in the input, int64.
        ids: int64.
        mask: int64, 1 on real tokens.
        positions: int64, counted over real tokens.
        last: index of the final real token, int64.
        text_mask: the text's own tokens, without the prompt.
    """

    rows: Int[Tensor, " batch"]
    ids: Int[Tensor, "batch seq_len"]
    mask: Int[Tensor, "batch seq_len"]
    positions: Int[Tensor, "batch seq_len"]
    last: Int[Tensor, " batch"]
    text_mask: Bool[Tensor, "batch seq_len"]


def tokenize(
    tokenizer: Any, texts: Sequence[str], prompt: Prompt, max_length: int, strict: bool = False
) -> list[TokenizedText]:
    """Tokenize prompted texts; special-token strings inside them stay plain text.

    The tokenizer adds what it adds by itself (BOS for Gemma, nothing for SmolLM2).

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: without their prompt.
        prompt: placed around each.
        max_length: most tokens, prompt included. A longer text is cut at its end, the prompt
            never; an empty one without a prompt gets the tokenizer's BOS or EOS.
        strict: refuse a longer text instead.

    Returns:
        One per text, in their order.

    Raises:
        InputError: when `strict` and a text is too long, or when the prompt alone does not fit.
    """
    tokenized = []
    for text, encoding in zip(texts, _encode(tokenizer, texts, prompt), strict=True):
        truncated = len(encoding.ids) > max_length
        if truncated:
            text = fitting(tokenizer, text, prompt, max_length, strict=strict)
            encoding = _encode(tokenizer, [text], prompt)[0]
        if not encoding.ids:
            encoding = _Encoding([_beginning_or_end(tokenizer)], [(0, 0)])
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
        text: without its prompt.
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
        encoding = _encode(tokenizer, [text], prompt)[0]
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
            shorter = encoding.offsets[start + kept][0] - len(prompt.prefix)
        text = text[: max(min(shorter, len(text) - 1), 0)]


class _Encoding(NamedTuple):
    """Ids, and the characters of the rendered prompt that each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def _encode(tokenizer: Any, texts: Sequence[str], prompt: Prompt) -> list[_Encoding]:
    if not texts:
        return []
    rendered = [prompt.render(text) for text in texts]
    try:
        encoded = _tokens_of(tokenizer, rendered)
    except Exception as error:  # the tokenizers' errors share no base
        raise InputError(f"the tokenizer cannot read the texts: {one_line(error)}") from error
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [_Encoding(ids, offsets) for ids, offsets in rows]


def _tokens_of(tokenizer: Any, rendered: list[str]) -> Any:
    with lock_of(tokenizer):  # transformers sets it anew for each call
        return tokenizer(
            rendered,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )


def _span(encoding: _Encoding, prompt: Prompt, text: str) -> tuple[int, int]:
    """Tokens that overlap `text` in the rendered prompt; an empty range at the end if none do."""
    start = len(prompt.prefix)
    end = start + len(text)
    inside = [
        token
        for token, (first, after) in enumerate(encoding.offsets)
        if first < after and first < end and after > start
    ]
    if inside:
        return inside[0], inside[-1] + 1
    return len(encoding.offsets), len(encoding.offsets)


def batches(
    tokenized: Sequence[TokenizedText],
    pad_id: int | None,
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
    side: str = "right",
    device: torch.device | str = "cpu",
    busy_tokens: int = BUSY_TOKENS,
) -> Iterator[TokenBatch]:
    """Padded batches, longest texts first.

    Args:
        tokenized: the texts.
        pad_id: id of the padding; None: 0.
        batch_tokens: most padded tokens of a batch; a single text may have more.
        batch_size: most texts of a batch; None: any number.
        side: of the padding, ``left`` or ``right``.
        device: where the tensors live.
        busy_tokens: a batch of that many is also closed before a text that is a tenth shorter:
            padding costs as much as text, a further forward pass little.

    Yields:
        Batches that hold every text once.
    """
    order = sorted(range(len(tokenized)), key=lambda i: (-len(tokenized[i].ids), i))
    lengths = [len(tokenized[i].ids) for i in order]
    start = 0
    while start < len(order):
        stop = min(start + (batch_size or len(order)), len(order))
        end = _batch_end(lengths[start:stop], batch_tokens, busy_tokens) + start
        rows = order[start:end]
        yield pad([tokenized[i] for i in rows], rows, pad_id, side, device)
        start = end


def _batch_end(lengths: Sequence[int], batch_tokens: int, busy_tokens: int) -> int:
    """How many of the texts make the next batch; `lengths` descend."""
    width = lengths[0]
    for n in range(1, len(lengths)):
        is_full = (n + 1) * width > batch_tokens
        is_busy = n * width >= busy_tokens
        if is_full or (is_busy and lengths[n] < MUCH_SHORTER * width):
            return n
    return len(lengths)


def pad(
    texts: Sequence[TokenizedText],
    rows: Sequence[int],
    pad_id: int | None,
    side: str = "right",
    device: torch.device | str = "cpu",
) -> TokenBatch:
    """Pad tokenized texts to one batch.

    Args:
        texts: of the batch.
        rows: their positions in the input.
        pad_id: id of the padding; None: 0.
        side: of the padding, ``left`` or ``right``.
        device: where the tensors live.

    Returns:
        The batch, as wide as its longest text.
    """
    width = max(len(text.ids) for text in texts)
    ids = torch.full((len(texts), width), pad_id or 0)
    mask = torch.zeros_like(ids)
    text_mask = torch.zeros_like(ids, dtype=torch.bool)
    last = torch.empty(len(texts), dtype=torch.long)
    for row, text in enumerate(texts):
        first = width - len(text.ids) if side == "left" else 0
        end = first + len(text.ids)
        ids[row, first:end] = torch.tensor(text.ids)
        mask[row, first:end] = 1
        text_mask[row, first + text.span[0] : first + text.span[1]] = True
        last[row] = end - 1
    return TokenBatch(
        rows=torch.tensor(rows).to(device),
        ids=ids.to(device),
        mask=mask.to(device),
        positions=position_ids(mask).to(device),
        last=last.to(device),
        text_mask=text_mask.to(device),
    )


def position_ids(mask: Shaped[Tensor, "batch seq_len"]) -> Int[Tensor, "batch seq_len"]:
    """Positions counted over real tokens only.

    Args:
        mask: 1 or True on real tokens, padding on either side.

    Returns:
        int64; 0 on leading padding.
    """
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
