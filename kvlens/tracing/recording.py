"""Recording: texts run through the model, and hooks keep what the final token holds.

1. Tokenize every text inside the prompt.
2. Run length-sorted batches through the bridge, without its LM head and no further than the last
   layer asked for; through raw transformers where the bridge shows other states.
3. Hooks copy, for each text, only the rows that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import (
    arguments,
    choice,
    flag,
    function,
    layer_list,
    names,
    optional,
    text,
)
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.token_hash import token_hash
from kvlens.texts.tokens import TokenizedText, tokenize
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.hooks import record_batch
from kvlens.tracing.request import Request
from kvlens.tracing.sourcing import source_of
from kvlens.tracing.trace import KEEP, Points, Trace

# A pass through the bridge costs more than one through the raw model, whatever its size.
BUSY_TOKENS = 1024


@arguments(
    lm=a_model,
    points=text,
    keep=names,
    layers=optional(layer_list),
    patterns=flag,
    padding_side=choice("left", "right"),
    progress=optional(function),
)
def record(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    points: Points = "last",
    keep: Sequence[str] = KEEP,
    layers: Sequence[int] | None = None,
    patterns: bool = False,
    padding_side: str = "right",
    progress: Progress | None = None,
    **limits: Unpack[LimitOptions],
) -> Trace:
    """Record states of `texts`.

    Args:
        lm: the model.
        texts: without their prompt.
        prompt: its name, a template, or the prompt itself.
        points: which hidden states: the ``last`` token's, the ``mean`` over real tokens, or
            ``all`` real tokens'. K and V are always the final real token's.
        keep: which of `KEEP` to hold in memory.
        layers: block indices; default all.
        patterns: keep attention weights too (n x n each).
        padding_side: ``left`` or ``right``.
        progress: called with (texts done, texts).
        **limits: `max_length` (default the model's context; longer texts are truncated and
            counted), `strict` (refuse them instead), `batch_tokens` (default 2,048).

    Returns:
        The trace, texts in their order.

    Raises:
        InputError: on bad input, on NaN or infinity in the activations, inside a `with reroute`
            block, and for a model in train mode.
    """
    bounds = Limits.of(limits)
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    request = Request.of(lm.info, points, keep, layers, patterns)
    max_length = bounds.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, max_length, bounds.strict)
    lengths = tuple(len(text.ids) for text in tokenized)
    source = source_of(lm)
    if patterns and source.tree == "raw":
        raise InputError(f"cannot record patterns of {lm.info.architecture}: {source.reason}")
    if padding_side not in source.sides:
        raise InputError(f"{lm.info.architecture} sees padding on the {padding_side}: pad right")
    buffers = Buffers(lm.anatomy, lm.info, request, lengths)
    done = 0
    for batch in _padded(lm, tokenized, bounds.batch_tokens, padding_side):
        record_batch(lm, batch, request, buffers, source)
        done += len(batch.rows)
        (progress or silent)(done, len(lengths))
    buffers.check_filled()
    buffers.keep_position_zero()
    return Trace(
        model=lm.info,
        prompt=prompt,
        texts=texts.info(),
        points=points,
        layers=request.layers,
        n_tokens=lengths,
        n_truncated=sum(text.truncated for text in tokenized),
        tensors=buffers.tensors,
        versions=versions(),
        token_hashes=tuple(token_hash(text.ids) for text in tokenized),
    )


def _padded(
    lm: LanguageModel, tokenized: Sequence[TokenizedText], batch_tokens: int, side: str
) -> Iterator[TokenBatch]:
    return batches(
        tokenized,
        lm.tokenizer.pad_token_id,
        batch_tokens,
        side=side,
        device=lm.device,
        busy_tokens=BUSY_TOKENS,
    )
