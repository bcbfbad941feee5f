"""Batches: ids -> padded batches that know each final real token.

They know no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from kvlens.texts.limits import BATCH_TOKENS
from kvlens.texts.tokens import TokenizedText

# A pass over fewer tokens is hardly cheaper, so smaller batches are filled up with shorter texts.
BUSY_TOKENS = 256
MUCH_SHORTER = 0.9  # of the longest text in the batch: padding it costs more than a further pass


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

    def halves(self) -> tuple[TokenBatch, TokenBatch]:
        """The first and the second half of its texts, each as wide as its longest."""
        middle = len(self.rows) // 2
        return self._of_rows(slice(middle)), self._of_rows(slice(middle, None))

    def _of_rows(self, rows: slice) -> TokenBatch:
        mask = self.mask[rows]
        columns = mask.any(0).nonzero()
        first, last = int(columns[0]), int(columns[-1])
        inside = rows, slice(first, last + 1)
        return TokenBatch(
            rows=self.rows[rows],
            ids=self.ids[inside],
            mask=self.mask[inside],
            positions=self.positions[inside],
            last=self.last[rows] - first,
            text_mask=self.text_mask[inside],
        )


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
    """Positions counted from the first real token on, over real tokens only.

    Args:
        mask: 1 or True on real tokens, padding on either side.

    Returns:
        int64; 0 on leading padding, and counted on over trailing padding: where positions do not
        rise, transformers sees texts packed into one row, and makes a dense mask for them.
    """
    real = mask.bool()
    trailing = ~real.flip(-1).cummax(-1).values.flip(-1)
    return ((real | trailing).long().cumsum(-1) - 1).clamp(min=0)
